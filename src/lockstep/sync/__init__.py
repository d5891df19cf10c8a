"""Reaching the network's state, verified, whatever peers do: replaying certified blocks (`catch_up`), and following a
chain from one line of trust without its blocks (`light_*`). Pure.

    light_trust    the line          light_rule     when trust reaches a header       light_state   what is remembered
    light_shown    a node's answer   light_client   following, witnesses, forks       light_fork    the proof of a fork
"""
