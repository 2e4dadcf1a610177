#!/bin/sh
# Boots a systemd in namespaces of its own: boot.sh outside HOME, then (by itself) boot.sh inside HOME.
# HOME holds `etc` and `opt`, empty `cgroup` and `dev`; `binds`: lines of "where what", to be shown read-only;
# `systemd`: the program's path.
# Ends, and takes everything along, when its standard input ends.
set -eu
stage=$1
home=$2

outside() {
    # Nobody else sees what is mounted from here on. The processes get a cgroup of their own, so that none is left over;
    # the unified hierarchy is there on every kernel of today, even where the machine uses the old ones.
    mount -t cgroup2 cgroup2 "$home/cgroup"
    own=$(sed -n 's/^0:://p' /proc/self/cgroup)
    cgroup=$home/cgroup$own/sdd-dicom-test-$$
    mkdir "$cgroup"
    sh -c 'echo $$ > "$1/cgroup.procs" && exec unshare --pid --fork --kill-child --mount --ipc --uts --net --cgroup \
        sh "$2" inside "$3"' - "$cgroup" "$0" "$home" < /dev/null &
    child=$!
    echo "$child"
    cat > /dev/null
    kill -KILL "$child" 2> /dev/null || true
    wait "$child" || true
    # The kernel may need a moment for the last of them.
    for _ in $(seq 100); do
        find "$cgroup" -depth -type d -exec rmdir {} + 2> /dev/null && break
        sleep 0.1
    done
}

inside() {
    # What systemd must not touch: the machine's own files, and what the kernel is told through /proc/sys and /sys.
    mount --make-rprivate /
    mount --bind "$home" "$home"
    cut -d ' ' -f 5 /proc/self/mountinfo | while read -r place; do
        case $(printf '%b' "$place") in
        "$home" | "$home"/*) ;;
        *) mount -o remount,bind,ro "$(printf '%b' "$place")" 2> /dev/null || true ;;
        esac
    done
    while read -r where what; do
        mount --bind "$what" "$where"
        mount -o remount,bind,ro "$where"
    done < "$home/binds"

    mount -t proc proc /proc
    mount --bind /proc/sys /proc/sys
    mount -o remount,bind,ro /proc/sys
    mount -t cgroup2 cgroup2 /sys/fs/cgroup

    mount -t tmpfs -o mode=755 tmpfs "$home/dev"
    for name in null zero full random urandom tty; do
        : > "$home/dev/$name"
        mount --bind "/dev/$name" "$home/dev/$name"
    done
    mkdir "$home/dev/shm" "$home/dev/pts"
    mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$home/dev/pts"
    ln -s pts/ptmx "$home/dev/ptmx"
    ln -s /proc/self/fd "$home/dev/fd"

    program=$(cat "$home/systemd")
    mount --bind "$home/etc" /etc
    mount --rbind "$home/opt" /opt
    mount --rbind "$home/dev" /dev
    # HOME may be hidden from here on.
    for place in /run /var/lib /var/log /var/cache; do
        mount -t tmpfs -o mode=755 tmpfs "$place"
    done
    for place in /tmp /var/tmp /dev/shm; do
        mount -t tmpfs -o mode=1777 tmpfs "$place"
    done
    # For the libraries of an interpreter that was brought to /opt.
    ldconfig
    # Among themselves mounts are seen everywhere, as on any machine with systemd.
    mount --make-rshared /
    # It finds these units only: none of the machine's own is ever started.
    exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin container=lxc \
        SYSTEMD_UNIT_PATH=/etc/systemd/system:/etc/systemd/few SYSTEMD_GENERATOR_PATH=/etc/systemd/none \
        "$program" --system --unit=multi-user.target --log-target=journal --show-status=false
}

"$stage"
