#!/usr/bin/env bash
# Fills ./libtorch with what building and running pipe-torch needs: libtorch 2.11 for the CPU, and its headers.
#
# With LIBTORCH set (a directory with lib/ and include/, such as site-packages/torch of PyTorch 2.11) it links to that one; its
# libtorch_cuda.so is left out on purpose, because pipe-torch opens it at run time, from beside the CPU library.
# Without, it takes three wheels from the Python package index (0.55 GB) with pip and unpacks the few files needed.
set -euo pipefail
cd "$(dirname "$0")/.."
version=2.11.0
target=libtorch
needed=(libtorch_cpu.so libtorch.so libc10.so)

complete() {
    for name in "${needed[@]}"; do [ -e "$target/lib/$name" ] || return 1; done
    [ -e "$target/include/torch/headeronly/version.h" ]
}

link_from() {
    local from=$1 name
    for name in "${needed[@]}"; do
        [ -e "$from/lib/$name" ] || { echo "LIBTORCH=$from has no lib/$name" >&2; exit 1; }
    done
    grep -q "TORCH_VERSION_MINOR 11$" "$from/include/torch/headeronly/version.h" 2>/dev/null ||
        { echo "LIBTORCH=$from is not libtorch ${version%.*}" >&2; exit 1; }
    rm -rf "$target"
    mkdir -p "$target/lib"
    ln -s "$(realpath "$from/include")" "$target/include"
    # What libtorch_cpu.so needs lies beside it, or in the packages that pip installs beside torch.
    for name in "$from"/lib/lib{torch,torch_cpu,c10,gomp,gomp-*,shm}.so* "$from"/../nvidia/*/lib/lib{cudart,cupti}.so*; do
        [ -e "$name" ] && ln -sf "$(realpath "$name")" "$target/lib/$(basename "$name")"
    done
}

unpack_wheels() {
    wheels=$(mktemp -d)
    trap 'rm -rf "$wheels" "$target.new"' EXIT
    echo "fetching libtorch $version for the CPU (0.55 GB) …" >&2
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --dest "$wheels" \
        "torch==$version" 'nvidia-cuda-runtime==13.0.*' 'nvidia-cuda-cupti==13.0.*'
    rm -rf "$target" "$target.new"
    mkdir -p "$target.new/lib"
    python3 - "$wheels" "$target.new" <<'PYTHON'
import pathlib, re, shutil, sys, zipfile

wheels, target = map(pathlib.Path, sys.argv[1:])
library = re.compile(r"(torch|nvidia/[^/]+)/lib/(lib(torch|torch_cpu|c10|gomp[^/]*|cudart|cupti)\.so[^/]*)$")
for wheel in sorted(wheels.glob("*.whl")):
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if name.endswith("/"):
                continue
            if match := library.match(name):
                place = target / "lib" / match[2]
            elif name.startswith("torch/include/"):
                place = target / name.removeprefix("torch/")
            else:
                continue
            place.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(name) as source, open(place, "wb") as out:
                shutil.copyfileobj(source, out)
PYTHON
    mv "$target.new" "$target"
}

if [ -n "${LIBTORCH:-}" ] && [ "$(realpath -m "$LIBTORCH")" != "$(realpath -m "$target")" ]; then
    link_from "$LIBTORCH"
elif ! complete; then
    unpack_wheels
fi
complete || { echo "libtorch is not complete in ./$target; remove it and try again" >&2; exit 1; }
