"""What statements say of columns: sets, ages, texts and causes."""
