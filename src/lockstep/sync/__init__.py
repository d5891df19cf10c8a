"""Reaching the network's state, verified, whatever peers do: replaying certified blocks (`catch_up`), fetching a
certified state or what differs from it (`state_*`), and following a chain from one line of trust without its blocks
(`light_*`). Pure.

    state_sync     the effort: offers, requests, late and wrong answers       state_peers    who is asked, how much
    state_walk     down the trees beside what is here                         state_request  its arithmetic
    state_offer    a checkpoint that is shown, and its certificate            succession     to unknown validators
    checkpoint_server    the other side: pinned checkpoints, bounded answers
    local_state    what a store has; `local_table`: of one table, for the walk; `stored_table`: of a checkpoint

    catch_up       blocks from several peers at once      chain_batch    one answer, checked      chain_peers    who

    merge          several nodes' events as one stream, no effect before its cause
    signed_chain   which of the blocks that they tell a quorum signed
    state_nodes    nodes of a tree checked against those above

    light_trust    the line          light_rule     when trust reaches a header       light_state   what is remembered
    light_shown    a node's answer   light_client   following, witnesses, forks       light_fork    the proof of a fork
    bisection      over headers in between, where trust does not reach
    certified_changes    who signed a state that came as files
"""
