/** A test that finds nobody to kill must fail, not end its own run: 0 is the process group of all
 *  of it, and -1 is everybody. */
const { kill } = process;
process.kill = (pid, signal) => {
  if (pid === 0 || pid === -1) throw new Error(`nobody was found to signal: the pid is ${pid}`);
  return kill.call(process, pid, signal);
};
