/** The payload of a cell: a shell loop that starts one bubblewrap per line. All it does is open
 *  pipes and fork; it reads nothing of the user's and ends when the host's pipe ends, and with it
 *  the cell. Line: `SLOT in` or `SLOT -` (is standard input a pipe or empty). Answer: `made SLOT`.
 */

/** Called with the stage, bwrap, mkfifo, then the limit command. One fork, so that bubblewrap is
 *  the child of the loop itself: its death signal is armed against its parent, whoever that is
 *  then. `jobs` reaps and forgets those that ended. Any POSIX shell will do. */
export const SPAWNER_SCRIPT = `
umask 077
stage=$1 bwrap=$2 mkfifo=$3
shift 3
echo ready
while read -r slot input; do
  pipes=$stage/pipes/$slot
  "$mkfifo" "$pipes/in" "$pipes/out" "$pipes/err" "$pipes/block" "$pipes/status" || exit 1
  echo "made $slot"
  from=/dev/null
  [ "$input" = in ] && from=$pipes/in
  (
    exec "$bwrap" --args 3 -- "$@" /bin/sh /run/prx/call/call.sh \\
      3<"$pipes/args" 4<"$pipes/block" 5>"$pipes/status" 6<"$stage/etc/filter" \\
      >"$pipes/out" 2>"$pipes/err" <"$from"
  ) &
  jobs >/dev/null
done
`;
