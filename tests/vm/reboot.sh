# In the guest of test_reboot.py: $1 is what to do. The state lies on the disk, which outlives the guest.
mkdir -p /tmp/disk /tmp/project /run/netns
mount -t ext4 /dev/vda /tmp/disk || exit 1
/run/modprobe -a overlay veth bridge nft_chain_nat nft_nat nft_masq nft_ct nft_fib_inet sch_ingress cls_bpf
cp -a "$PROJECT/nanocontainer" "$PROJECT/src" /tmp/project
export NANOCONTAINER_ROOT=/tmp/disk/state NANOCONTAINER_RUNROOT=/run/nano NANOCONTAINER_LINGER=0
nano() { /tmp/project/nanocontainer "$@"; }
