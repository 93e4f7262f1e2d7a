"""`python -m services.fetcher.imports.gguf_child`: one GGUF file to a safetensors folder.

Before it imports anything heavy or reads a byte of the file it limits itself and gives up all that
it does not need: files, its parent's secrets, the network, capabilities. Then whatever a hostile
file makes of it can spoil its own model, and nothing else.
"""

import argparse
import os
import resource
import sys
from pathlib import Path

from libs.common.process.prctl import drop_capabilities, end_with_parent, forbid_new_privileges
from services.fetcher.imports.landlock import confine

_MAX_FILE_BYTES = 512 << 30
_SYSTEM = ("/usr", "/lib", "/lib64", "/bin")
# What libraries look at when they start: no folder of /etc or /proc, which tell of others.
_FACTS = (
    *("/etc/ld.so.cache", "/etc/localtime", "/etc/nsswitch.conf", "/etc/passwd", "/etc/group"),
    *("/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/sys/vm"),
    *("/sys/devices/system", "/sys/kernel/mm", "/dev/urandom"),
)


def limit(memory_bytes: int, cpu_seconds: int) -> None:
    """Die with the parent, and within these limits."""
    end_with_parent()
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_MAX_FILE_BYTES, _MAX_FILE_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.umask(0o077)


def give_up_rights(descriptor: int, folder: Path, *, is_unconfined: bool = False) -> None:
    """All but reading programs and the source, and writing to the folder. Raises OSError."""
    forbid_new_privileges()
    if not is_unconfined:
        _confine(descriptor, folder)
    drop_capabilities()


def _confine(descriptor: int, folder: Path) -> None:
    prefixes = {sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix}
    readable = [Path(path).resolve() for path in (*prefixes, *_SYSTEM, *_FACTS)]
    confine(readable, [folder, Path("/dev/null")], [descriptor])


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
    parser.add_argument("--is-unconfined", action="store_true", help="there is no Landlock")
    options = parser.parse_args()
    limit(options.memory_bytes, options.cpu_seconds)
    try:
        give_up_rights(options.descriptor, options.folder, is_unconfined=options.is_unconfined)
        convert(options.descriptor, options.folder)
    except ImportError as exc:
        sys.exit(f"this node cannot convert GGUF ({exc}); install the extra 'convert'")
    except Exception as exc:  # the last line of stderr is the cause that the user sees
        sys.exit(f"{type(exc).__name__}: {exc}".replace("\n", " "))


if __name__ == "__main__":
    main()
