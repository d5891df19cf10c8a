"""Agreeing on order. A pure state machine per engine; `interface` says what every engine takes and gives."""
