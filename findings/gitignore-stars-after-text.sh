#!/bin/bash
# In a .gitignore, `foo**/bar` ignores `foobar`, and `foo/x/bar` as well. gitignore(5) says that two asterisks which are not a whole path component are
# ordinary ones, which would make it `foo*/bar`. Git cuts the literal beginning off before it matches, so that the asterisks stand at the beginning of what is
# left, where they are taken for a component. Whoever writes a matcher by the manual decides otherwise.
# Needs git. Exits with 0 while this is so, 1 when it has changed, 2 when it cannot be tried.
set -u
command -v git >/dev/null || { echo "git is not installed"; exit 2; }
git --version
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT; cd "$folder" || exit 2
export HOME=$folder GIT_CONFIG_NOSYSTEM=1
git init -q .
ignored() { printf '%s\n' "$1" >.gitignore; git check-ignore -q --no-index "$2" && echo yes || echo no; }
status=0
check() {
    found=$(ignored "$1" "$2"); echo "$1 ignores $2: $found"
    [ "$found" = "$3" ] || { echo "CHANGED: it was $3"; status=1; }
}
check 'foo**/bar' foobar yes
check 'foo**/bar' foo/x/bar yes
check 'foo**/bar' foox/bar yes
# Without a literal beginning the same asterisks are ordinary.
check '[f]oo**/bar' foobar no
check '[f]oo**/bar' foo/x/bar no
check '[f]oo**/bar' foox/bar yes
exit $status
