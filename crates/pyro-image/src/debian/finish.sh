# Turns an installed Debian into the root image of an environment. Runs as root of its namespace: `sh -eu finish.sh` with
#   root      folder of the installed system, or the place to unpack it to
#   archive   tar of the installed system, empty when `root` holds it already
#   modules   module tree to move in;  kernel  its version
#   files     files that become part of the image as they are, except where the system has them
#   image     file to write;  label, uuid  of the file system
# Prints facts as `pyro:NAME VALUE`.
umask 022

if [ -n "$archive" ]; then
    mkdir "$root"
    tar --extract --numeric-owner --preserve-permissions --xattrs --xattrs-include='*' --file "$archive" --directory "$root"
    rm "$archive"
fi

# `cp --update=none` is newer than Debian 12; `--no-clobber` fails quietly there, which is what is wanted.
rm -rf "$root/etc/apt/sources.list" "$root/etc/apt/sources.list.d"
cp --recursive --no-clobber "$files/." "$root/"

mkdir -p "$root/usr/lib/modules"
mv "$modules" "$root/usr/lib/modules/$kernel"
chown -R 0:0 "$root/usr/lib/modules"
chroot "$root" depmod "$kernel"

# What the build needed and a guest must not inherit: hooks, indexes, logs, the host's identity.
rm -f "$root/etc/apt/apt.conf.d/99mmdebstrap" "$root/etc/dpkg/dpkg.cfg.d/99mmdebstrap" "$root/usr/sbin/policy-rc.d"
rm -rf "$root/var/lib/apt/lists" "$root/var/cache/apt" "$root/var/cache/ldconfig/aux-cache" "$root/var/cache/debconf/"*-old
mkdir -p "$root/var/lib/apt/lists/partial" "$root/var/cache/apt/archives/partial"
find "$root/var/log" -type f -delete
rm -rf "$root/dev" "$root/proc" "$root/sys" "$root/run" "$root/tmp"
mkdir -p "$root/dev" "$root/proc" "$root/sys" "$root/run" "$root/tmp" "$root/workspace"
chmod 0755 "$root" "$root/workspace"
chmod 1777 "$root/tmp"
rm -f "$root/etc/machine-id" "$root/var/lib/dbus/machine-id" "$root/etc/resolv.conf" "$root/etc/hostname" "$root/etc/hosts"
: >"$root/etc/machine-id"
: >"$root/etc/resolv.conf"
echo pyro >"$root/etc/hostname"
cat >"$root/etc/hosts" <<'END'
127.0.0.1 localhost
127.0.1.1 pyro
::1 localhost ip6-localhost ip6-loopback
END
mkdir -p "$root/etc/default"
echo LANG=C.UTF-8 >"$root/etc/default/locale"
# The agent adds this where it is missing (pyro-guest's git.rs). The first file that is made in a workspace's `/etc` costs milliseconds.
cat >"$root/etc/gitconfig" <<'END'
# Added by Pyro: repositories in a workspace may belong to any of its users.
[safe]
	directory = *
END
cat >"$root/etc/apt/apt.conf.d/90pyro" <<'END'
// A guest has no use for translated package descriptions; fetching and indexing them costs seconds.
Acquire::Languages "none";
END
cat >"$root/etc/dpkg/dpkg.cfg.d/90pyro" <<'END'
# A guest's disk is synced when the workspace stops; syncing after every unpacked file only makes installing slower.
force-unsafe-io
# Manuals stay out of the image and of what is installed later; licences stay in.
path-exclude=/usr/share/doc/*
path-include=/usr/share/doc/*/copyright
path-exclude=/usr/share/info/*
path-exclude=/usr/share/lintian/*
path-exclude=/usr/share/locale/*
path-include=/usr/share/locale/locale.alias
path-exclude=/usr/share/man/*
END

echo "pyro:packages $(grep -c '^Status: install ok installed' "$root/var/lib/dpkg/status")"
bytes=$(du --summarize --apparent-size --block-size=1 "$root" | cut -f1)
inodes=$(find "$root" | wc -l)
echo "pyro:content_bytes $bytes"

# The image is read-only, so it needs no journal, no reserve and no room to grow: content, one partly used block per file, a table of 256
# bytes per inode, and a few per cent for extents and folders. Too much costs nothing, since unused blocks are holes.
inodes=$((inodes + 256))
blocks=$((bytes / 4096 + inodes + inodes / 16))
blocks=$((blocks + blocks / 32 + 4096))
# Checksums of metadata are left out: the digest covers the image, and under TCG every folder read would pay for them.
mke2fs -q -F -t ext4 -b 4096 -I 256 -m 0 -N "$inodes" -U "$uuid" -L "$label" \
    -O '^has_journal,^resize_inode,^metadata_csum' \
    -E "lazy_itable_init=0,assume_storage_prezeroed=1,nodiscard,root_owner=0:0,hash_seed=$uuid" \
    -d "$root" -- "$image" "$blocks"
debugfs -w -R 'rmdir lost+found' "$image"
