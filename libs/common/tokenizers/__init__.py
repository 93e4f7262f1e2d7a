"""What a tokenizer.json asks of whoever runs it. Pure: nothing here runs one."""
