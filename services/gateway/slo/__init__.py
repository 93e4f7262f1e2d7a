"""Whether requests met their SLOs, and what their time went to."""
