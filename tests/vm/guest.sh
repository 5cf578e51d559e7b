# In the guest: the tests (see test_vm.py), their report, and a last look at what is left of everything.
/run/modprobe -a veth bridge nft_chain_nat nft_nat nft_masq nft_ct nft_fib_inet sch_ingress cls_bpf & # one process instead of ten
# A copy: nobody edits it meanwhile, and the command may write its cache.
mkdir /tmp/project /run/netns
cp -a "$PROJECT/nanocontainer" "$PROJECT/pyproject.toml" "$PROJECT/src" "$PROJECT/tests" /tmp/project
cd /tmp/project || exit 1
wait
count() { # what an engine could leave
    find /sys/fs/cgroup -mindepth 1 -type d
    sed 's/^[^ ]* [^ ]* [^ ]* //' /proc/self/mountinfo
    ls /sys/class/net /run/netns 2>/dev/null
    nft list ruleset
    for pid in /proc/[0-9]*; do # kernel threads have no command line
        tr '\0' ' ' <"$pid/cmdline" 2>/dev/null | grep -a '[n]ano'
    done
}
count >/tmp/before
# One worker of the crash matrix: the census counts the cgroups of all.
export NANOCONTAINER_TEST_PATIENCE=10 NANOCONTAINER_CRASH_WORKERS=1 NANOCONTAINER_CRASH_STEPS="EnableControllers MakeCgroup SetLimit AllowDevices Clone"
NANOCONTAINER_CENSUS=all NANOCONTAINER_TEST_DISK=/dev/vda PYTHONDONTWRITEBYTECODE=1 \
    "$PYTHON" -m pytest -p no:cacheprovider --tb=short --color=no --junit-xml=/tmp/report.xml $TESTS
code=$?
count >/tmp/after
diff /tmp/before /tmp/after || { echo "left behind in the guest"; code=1; }
echo "report of the tests:"
cat /tmp/report.xml
echo
exit $code
