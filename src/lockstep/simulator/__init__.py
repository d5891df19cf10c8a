"""The other world: the same replicas under virtual time, with seeded delays, losses, partitions and crashes."""
