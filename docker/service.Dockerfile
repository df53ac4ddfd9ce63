# The image of one program of this workspace, such as the concert service or the payment API, over a base whose glibc is
# not older than the one it was built with. `cargo xtask images program NAME` makes it; `--service-image` runs it.
ARG BASE_IMAGE
FROM ${BASE_IMAGE}
ARG PROGRAM
ENV PROGRAM=${PROGRAM}
COPY contents /
USER nobody
ENTRYPOINT ["/bin/sh", "-c", "exec \"$PROGRAM\""]
