# Runs a JVM in namespaces of its own, hands on to it what comes in by lines, and writes it to files at the line
# `checkpoint`; the JVM ends by that.
#
# usage: sh make.sh CRIU IMAGES SCRATCH MOUNT COMMAND...
#   CRIU     the program
#   IMAGES   directory that takes the checkpoint
#   SCRATCH  directory that the JVM works in, seen by it at MOUNT; its output is the file `output` there
#   MOUNT    empty directory, over which each restore mounts another one
#   COMMAND  the JVM
set -eu
criu=$1 images=$2 scratch=$3 mount=$4
shift 4
mount --bind "$scratch" "$mount"
cd "$mount"
mkfifo input
# Ids that are free where the JVM is restored, whatever has been started there before.
echo 10000 >/proc/sys/kernel/ns_last_pid
setsid "$@" <input >>output 2>&1 &
jvm=$!
exec 3>input
while read -r line; do
  if [ "$line" = checkpoint ]; then
    exec "$criu" dump --unprivileged -v1 --tree "$jvm" --images-dir "$images" --ext-unix-sk
  fi
  echo "$line" >&3
done
