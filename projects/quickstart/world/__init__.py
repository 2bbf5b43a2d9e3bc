"""The Lantern Isles: a small world to pretrain, fine-tune and examine a tiny language model on."""
