"""Merges the data/MC jobs of all files, normalises, draws stacks, and says which model agrees better with data.

Reads: the job outputs `analysis/<dataset>/<file>.root` of every dataset with role `analyze`; for the final table also
`evaluation/results.json` and `attacks/results.json`, where they are there.
Writes: `comparison/histograms.root` (plain TH1D per category, TH2D of pairs), `comparison/results.json`,
`comparison/table.md`, pictures in `comparison/<region>/`; sums of groups of job outputs in `comparison/merged/`, used
again as long as the outputs are the same; when asked, templates for fits in `comparison/templates/`.
Guarantees: results of different cards, models or formats are never mixed; simulation is scaled to what was processed;
what is short of chunks or files is named in the results, on every plot and by exit code 75. Sums have the same bits
in any order of files and for any number of processes; a process has one output's content in memory, whatever the
number of outputs. "Agrees better" is said only of a difference above two of its own bootstrap errors.
"""
