"""What a client program speaks: an asyncio client for a node's client port."""
