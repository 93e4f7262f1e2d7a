"""The worker process: `python -m services.worker.runtime <descriptor> <agent pid>`."""

from services.worker.runtime.worker_process import main

if __name__ == "__main__":
    main()
