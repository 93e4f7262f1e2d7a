"""A small scenario for tests: one node, one device, one model, figures that are easy to add up."""

SMALL = """
duration_s = 100
drain_s = 100

[network]
hop_s = 0.001

[devices.card]
memory_gb = 24
launch_s = 2
standby_launch_s = 0.5
load_after_s = 0.25
load_gb_per_s = 10
tail_s = 0.5
sequential_load_gb_per_s = 5
sequential_tail_s = 0.25
stop_s = 1

[nodes.node]
count = 1
device = "card"
num_devices = 1
nic_gbps = 16
host_cache_gb = 100

[speeds.card.llama]
prefill_s_per_token = 0.001
decode_step_s = [[1, 0.05], [8, 0.085]]

[models.model]
count = 1
architecture = "llama"
weights_gb = 10
kv_gb = 2
num_layers = 10
min_pipeline_size = 1
keep_alive_s = 10
ttft_slo_s = 8
tpot_slo_s = 0.1
prompt = {median_tokens = 100, max_tokens = 1000}
output = {median_tokens = 11, max_tokens = 1000}

[traffic]
rate_per_s = 0.01
"""
