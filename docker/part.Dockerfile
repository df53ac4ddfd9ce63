# The image of one part: what this machine has prepared for it (jars, a JDK and class archives, or a server), at the
# same paths as here, over a base of any distribution with glibc 2.31 or later. `cargo xtask images build` makes it.
ARG BASE_IMAGE
FROM ${BASE_IMAGE}
COPY contents /
