"""One replica: pool, ordering, execution and catching up, composed into a single pure `step()`.

`Replica` decides; `Executor` computes (it owns the venue's state and may run on another thread); everything that
touches the world leaves as an effect (`effects`) and comes back as an event (`events`).
"""
