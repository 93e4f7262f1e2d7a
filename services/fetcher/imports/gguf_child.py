"""`python -m services.fetcher.imports.gguf_child`: one GGUF file to a safetensors folder.

Limits itself before it imports anything heavy or reads a byte of the file.
"""

import argparse
import ctypes
import os
import resource
import signal
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_MAX_FILE_BYTES = 512 << 30


def limit(memory_bytes: int, cpu_seconds: int) -> None:
    """Die with the parent, and within these limits."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_MAX_FILE_BYTES, _MAX_FILE_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.umask(0o077)


def convert(descriptor: int, folder: Path) -> None:
    """Writes `folder/model`. The file is read through the descriptor, never by its name."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    inlet, outlet = folder / "source", folder / "model"
    inlet.mkdir()
    (inlet / "model.gguf").symlink_to(f"/proc/self/fd/{descriptor}")
    tokenizer = AutoTokenizer.from_pretrained(inlet, gguf_file="model.gguf")
    model = AutoModelForCausalLM.from_pretrained(
        inlet,
        gguf_file="model.gguf",
        dtype=torch.bfloat16,
        quantization_config=GgufConfig(dequantize=True),
    )
    model.save_pretrained(outlet)
    tokenizer.save_pretrained(outlet)


def main() -> None:
    parser = argparse.ArgumentParser(prog="convert", description=__doc__)
    for name in ("--descriptor", "--memory-bytes", "--cpu-seconds"):
        parser.add_argument(name, type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    options = parser.parse_args()
    limit(options.memory_bytes, options.cpu_seconds)
    try:
        convert(options.descriptor, options.folder)
    except ImportError as exc:
        sys.exit(f"this node cannot convert GGUF ({exc}); install the extra 'convert'")
    except Exception as exc:  # the last line of stderr is the cause that the user sees
        sys.exit(f"{type(exc).__name__}: {exc}".replace("\n", " "))


if __name__ == "__main__":
    main()
