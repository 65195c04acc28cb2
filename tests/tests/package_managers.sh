#!/bin/sh
# Makes small package registries, one for each package manager, each with one package called `word` that says who brought it. Each host has
# a folder with its name; as in the real world, the packages themselves come from other hosts than the indexes. pip itself is put beside
# them, unpacked. Runs on the host.
#
#   package_managers.sh FOLDER
set -eu
cd "$1"
mkdir build pip files.deb.test pypi.test files.pypi.test git.test crates.test files.crates.test

# A flat repository of Debian packages; without a signature, so it is used with `trusted=yes`.
mkdir -p build/deb/DEBIAN build/deb/usr/bin
printf '#!/bin/sh\necho brought by apt\n' >build/deb/usr/bin/word
chmod 755 build/deb/usr/bin/word
cat >build/deb/DEBIAN/control <<'END'
Package: word
Version: 1.0
Architecture: all
Maintainer: World <world@deb.test>
Description: says who brought it
END
dpkg-deb --root-owner-group --build build/deb files.deb.test/word.deb >/dev/null
{
    cat build/deb/DEBIAN/control
    echo 'Filename: ./word.deb'
    echo "Size: $(wc -c <files.deb.test/word.deb)"
    echo "SHA256: $(sha256sum files.deb.test/word.deb | cut -d' ' -f1)"
} >files.deb.test/Packages

# A simple index (PEP 503) that refers to a wheel on another host.
information=word-1.0.dist-info
mkdir -p "build/wheel/$information" pypi.test/simple/word
cd build/wheel
echo 'told = "brought by pip"' >word.py
printf 'Metadata-Version: 2.1\nName: word\nVersion: 1.0\n' >"$information/METADATA"
printf 'Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n' >"$information/WHEEL"
printf '%s,,\n' word.py "$information/METADATA" "$information/WHEEL" "$information/RECORD" >"$information/RECORD"
python3 -m zipfile -c ../../files.pypi.test/word-1.0-py3-none-any.whl word.py "$information"
cd ../..
digest=$(sha256sum files.pypi.test/word-1.0-py3-none-any.whl | cut -d' ' -f1)
echo "<!DOCTYPE html><a href=\"https://files.pypi.test/word-1.0-py3-none-any.whl#sha256=$digest\">word</a>" >pypi.test/simple/word/index.html

# A Git repository.
export GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null
git init --quiet git.test/word
echo 'brought by git' >git.test/word/told
git -C git.test/word add told
git -C git.test/word -c user.name=World -c user.email=world@git.test commit --quiet --message 'Say it'

# A sparse registry of crates, with the crates themselves on another host.
mkdir -p build/crate/word-1.0.0/src crates.test/wo/rd
printf '[package]\nname = "word"\nversion = "1.0.0"\nedition = "2021"\n' >build/crate/word-1.0.0/Cargo.toml
echo '// brought by cargo' >build/crate/word-1.0.0/src/lib.rs
tar --create --gzip --file files.crates.test/word-1.0.0.crate --directory build/crate word-1.0.0
digest=$(sha256sum files.crates.test/word-1.0.0.crate | cut -d' ' -f1)
echo '{"dl": "https://files.crates.test/{crate}-{version}.crate"}' >crates.test/config.json
echo "{\"name\": \"word\", \"vers\": \"1.0.0\", \"deps\": [], \"cksum\": \"$digest\", \"features\": {}, \"yanked\": false}" >crates.test/wo/rd/word

# Compiled here, where it takes a tenth of the time; a guest with another Python compiles what it needs by itself.
python3 -m zipfile -e /usr/share/python-wheels/pip-*.whl pip
python3 -m compileall -q --invalidation-mode unchecked-hash pip
