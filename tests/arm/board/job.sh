# What the emulated board does, as /root/job.sh; the test reads what it says. Every line that begins with === is for it.
export PATH=/bin:/usr/bin LIBSEDGE_HOME=/root PYTHONPATH=/root/site PYTHONDONTWRITEBYTECODE=1 OPENBLAS_NUM_THREADS=1
B=/bin/busybox
cd /root
libsedge() { /usr/bin/python3.11 peak_memory.py "$@"; }
step() { echo "=== $*"; }

step selftest
libsedge selftest model.sedge --target aarch64-linux
echo "=== rc $?"
step classify
libsedge classify model.sedge spectra.h5 --json
echo "=== rc $?"
step damaged
libsedge verify damaged.sedge
echo "=== rc $?"
step run
libsedge run model.sedge --source tcp:5600 --journal run.db --count 8 --json &
P=$!
while ! $B nc 127.0.0.1 5600 <frames.bin >acks.bin; do $B sleep 1; done
wait $P
echo "=== rc $?"
step journal
libsedge journal count run.db
echo "=== rc $?"
step runner
$B mkfifo frames
./libsedge-run <frames >decisions.jsonl &
P=$!
exec 3>frames
$B cat frames.bin >&3
while [ "$($B wc -l <decisions.jsonl)" -lt 8 ]; do $B usleep 200000; done
echo "peak $($B awk '/VmHWM/ {print $2}' /proc/$P/status) kB"
exec 3>&-
wait $P
echo "=== rc $?"
$B tail -n 1 decisions.jsonl
