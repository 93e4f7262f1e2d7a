"""What processes are called in the process table; forked ones share one command line."""

ZYGOTE = "hydra-zygote"
STANDBY = "hydra-standby"
WORKER = "hydra-worker"
