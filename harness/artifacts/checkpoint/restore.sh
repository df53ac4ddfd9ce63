# Restores a JVM from a checkpoint that make.sh made, in namespaces of its own: this process is the first of them, so
# that nothing of it outlives this.
#
# usage: sh restore.sh CRIU IMAGES SCRATCH MOUNT LOG
#   CRIU     the program
#   IMAGES   directory of the checkpoint
#   SCRATCH  directory that the JVM works in, seen by it at MOUNT
#   MOUNT    the directory of that name at the checkpoint
#   LOG      takes what CRIU says, which is told where the JVM is not restored
# Standard input and output become those of the JVM.
set -eu
criu=$1 images=$2 scratch=$3 mount=$4 log=$5
mount --bind "$scratch" "$mount"
exec 3<&0 4>&1 </dev/null >"$log" 2>&1
status=0
"$criu" restore --unprivileged -v1 --images-dir "$images" --work-dir "$scratch" --ext-unix-sk \
  --inherit-fd "fd[3]:${mount#/}/input" --inherit-fd "fd[4]:${mount#/}/output" || status=$?
if [ "$status" -ne 0 ]; then
  cat "$log" >&4
  echo "greenroom: the JVM was not restored; without ${images%/*} the next start makes another checkpoint" >&4
  exit "$status"
fi
# How the JVM has ended, CRIU does not tell; nobody has asked for it.
exit 1
