"""Agreeing on order. A pure state machine per engine; `interface` says what every engine takes and gives.

The engine here is Simplex. `simplex` is its text: the rules, one after another, with what they promise. The nouns that
the rules speak of have a file each: `config`, `view_clock` (when to give up, when to say it again), `tally` (the votes
of one view), `vote_book` (which votes are looked at, and who contradicts himself), `certificate_book` (what is
notarized, nullified and final, and what may be built on what), `own_votes` (the one place that signs), `roots` (what
executing gave, here and elsewhere), `activity` (who was heard), `assistance` (asking for certificates, and answering),
`proposals` and `pursuit` (what to do about this view's block), `reminders` (saying again what may have been lost).
"""
