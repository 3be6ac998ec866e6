#!/bin/sh -eu
# Stands in for a container: run a command with the runner's mounts, and with nothing of them left
# behind. To be called in a network and a mount namespace of its own.
#
#   enclosure.sh ROOT HOSTS COMMAND [ARGUMENT...]
#
# ROOT is a directory that has www, downloads, certs and logs; HOSTS takes the place of /etc/hosts.
files=$1
hosts=$2
shift 2

root=$files/root
mkdir -p "$root"
mount -t tmpfs tmpfs "$root"
for entry in /*; do
    case $entry in
    /www | /downloads | /certs | /logs | /setup.sh | /wait-for-it.sh) continue ;;
    esac
    if [ -L "$entry" ]; then
        cp -P "$entry" "$root$entry"
    elif [ -d "$entry" ]; then
        mkdir "$root$entry"
        mount --rbind "$entry" "$root$entry"
    fi
done
for name in www downloads certs logs; do
    mkdir "$root/$name"
    mount --bind "$files/$name" "$root/$name"
done
mount --bind "$hosts" "$root/etc/hosts"
# No name server can be reached, and the one on this host that glibc then tries refuses at once.
if [ -e "$root/etc/resolv.conf" ]; then
    : >"$root/resolv.conf"
    mount --bind "$root/resolv.conf" "$root/etc/resolv.conf"
fi

# What the runner's base image does here, network namespaces have done already.
for script in setup.sh wait-for-it.sh; do
    printf '#!/bin/sh\n' >"$root/$script"
    chmod +x "$root/$script"
done
exec chroot "$root" /bin/sh -c 'cd "$0" && exec "$@"' "$PWD" "$@"
