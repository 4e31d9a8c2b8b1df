/** The payload of a cell: a shell loop that starts one bubblewrap per line. All it does is open
 *  pipes and fork; it reads nothing of the user's and ends when the host's pipe ends, and with it
 *  the cell. When memory runs out the kernel looks here first, before it takes our own processes,
 *  and when processors do, these wait for ours: SCHED_IDLE, which nothing inside can leave.
 *  Line: `SLOT -`, or `SLOT hold` where the builder waits for a byte of the input. Answer:
 *  `made SLOT`.
 */

import { OWNER_MARK } from '../../base/process.ts';

/** Slots whose pipes are made at once, by one start of the program. Their folders are there before
 *  the first of them is asked for. */
export const SLOTS_AT_ONCE = 8;

/** Called with the stage, mkfifo, then the command of a sandbox, which reads its arguments from
 *  descriptor 3. PRX_DOOR is the runtime that opens the session's door to the proxy and hands it
 *  out through descriptor 3, which is then closed; absent: no door. One fork, so that bubblewrap
 *  is the child of the loop itself: its death signal is armed against its parent, whoever that is
 *  then. The pipes are ours alone; what a sandbox makes has the modes its user expects. `jobs`
 *  reaps and forgets those that ended. Any POSIX shell will do. */
export const SPAWNER_SCRIPT = `
umask 077
unset ${OWNER_MARK}
echo 500 > /proc/self/oom_score_adj 2>/dev/null
chrt --idle --pid 0 $$ 2>/dev/null
stage=$1 mkfifo=$2
shift 2
if [ -n "$PRX_DOOR" ]; then
  "$PRX_DOOR" -e "$PRX_DOOR_SCRIPT" || exit 1
  exec 3>&-
  unset PRX_DOOR PRX_DOOR_SCRIPT NODE_CHANNEL_FD NODE_CHANNEL_SERIALIZATION_MODE
fi
echo ready
while read -r slot hold; do
  pipes=$stage/pipes/$slot
  if [ ! -p "$pipes/status" ]; then
    n=$slot list=
    while [ "$n" -lt $((slot + ${SLOTS_AT_ONCE})) ]; do
      for pipe in in out err status; do list="$list $stage/pipes/$n/$pipe"; done
      n=$((n + 1))
    done
    "$mkfifo" $list || exit 1
  fi
  echo "made $slot"
  (
    umask 022
    [ "$hold" = hold ] && exec 4<"$pipes/in"
    exec "$@" 3<"$pipes/args" 5>"$pipes/status" 6<"$stage/filter" \\
      <"$pipes/in" >"$pipes/out" 2>"$pipes/err"
  ) &
  jobs >/dev/null
done
`;
