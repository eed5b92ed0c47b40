# What a process sees, told in sections that begin with "== name". Run by a shell that is process 1.
section() { echo "== $1"; }
section status
grep -E '^(Umask|Tgid|PPid|TracerPid|Uid|Gid|Groups|NSsid|NSpgid|Sig[BIC]|Cap|NoNew|Seccomp|Specul|Cpus_allowed_l|Threads)' \
    /proc/$$/status
section session
cut -d' ' -f5-7,18-20,40,41 /proc/$$/stat
section process
for one in oom_score_adj coredump_filter personality loginuid timerslack_ns setgroups uid_map gid_map comm; do
    echo "$one: $(cat /proc/$$/$one 2>&1)"
done
tr '\0' '\n' </proc/$$/cmdline
section limits
cat /proc/$$/limits
section environment
tr '\0' '\n' </proc/$$/environ
section id
id; umask; pwd; ulimit -a; readlink /proc/$$/cwd; readlink /proc/$$/root; hostname; uname -n
section mounts
cat /proc/$$/mounts
section propagation
cut -d' ' -f5- /proc/$$/mountinfo | sed 's/ - .*//'
section devices
find /dev | sort | while read -r one; do stat -c '%n %A %u %g %t:%T %N' "$one"; done
section root
for one in / /* /etc/* /sbin/docker-init /proc/* /sys/*; do
    case $one in /proc/[0-9]*|/etc/*.*) ;; *) stat -c '%n %F %a %u %g' "$one" 2>&1 ;; esac
done
section masked
for one in /proc/asound /proc/acpi /proc/kcore /proc/keys /proc/latency_stats /proc/timer_list /proc/sched_debug \
    /proc/scsi /sys/firmware; do
    if [ -d $one ]; then echo "$one: $(ls -a $one | tr '\n' ' ')"; mkdir $one/x 2>&1
    else echo "$one: $(head -c 4 $one 2>&1 | wc -c)"; (echo x >$one) 2>&1; fi
done
section masked-since-28
for one in /proc/interrupts /sys/devices/virtual/powercap; do echo "$one: $(head -c 4 $one 2>&1 | od -An -c)"; done
section readonly
for one in /proc/bus/x /proc/fs/x /proc/irq/default_smp_affinity /proc/sys/kernel/printk /proc/sysrq-trigger \
    /proc/sys/vm/swappiness /proc/sys/net/ipv4/ip_forward /sys/kernel/mm/x /sys/power/state /x /etc/x \
    /tmp/x /dev/x /dev/shm/x /run/x /proc/x /etc/hosts /etc/hostname /etc/resolv.conf; do
    (: >>$one) 2>&1 && echo "$one can be written"
done
(cd /sys/fs/cgroup/pids 2>/dev/null && mkdir x && echo "a cgroup can be made" && rmdir x) 2>&1
section files
for one in hosts hostname resolv.conf; do echo "# $one"; cat /etc/$one 2>&1; done
section sysctl
cd /proc/sys
for one in kernel/hostname kernel/domainname kernel/shmmax kernel/shmall kernel/shmmni kernel/shm_rmid_forced \
    kernel/msgmax kernel/msgmnb kernel/msgmni kernel/sem kernel/auto_msgmni fs/mqueue/msg_max fs/mqueue/queues_max \
    fs/mqueue/msgsize_max net/ipv4/ip_forward net/ipv4/ip_unprivileged_port_start net/ipv4/ping_group_range \
    net/ipv4/ip_local_port_range net/ipv4/conf/all/forwarding net/ipv4/conf/all/rp_filter net/ipv4/conf/eth0/forwarding \
    net/ipv6/conf/eth0/disable_ipv6 net/core/somaxconn net/ipv4/tcp_keepalive_time user/max_user_namespaces; do
    echo "$one: $(cat $one 2>&1)"
done
section ipv6
for one in all default lo; do echo "$one: $(cat net/ipv6/conf/$one/disable_ipv6)"; done
ip -6 address
section network
cd /
ip -4 address 2>&1; ip route 2>&1; ls /sys/class/net
section cgroup
for one in /sys/fs/cgroup/*; do [ $one = /sys/fs/cgroup/x ] || stat -c '%n %F %a %N' $one; done
(sort /sys/fs/cgroup/devices/devices.list; cd /sys/fs/cgroup && for one in memory/memory.limit_in_bytes \
    memory/memory.soft_limit_in_bytes memory/memory.memsw.limit_in_bytes memory/memory.swappiness \
    memory/memory.use_hierarchy pids/pids.max cpu/cpu.shares cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us \
    cpuset/cpuset.cpus cpuset/cpuset.mems blkio/blkio.weight blkio/blkio.throttle.read_bps_device; do
    echo "$one: $(cat $one)"
done) 2>&1
section end
