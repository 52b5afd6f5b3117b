"""Scale factors: how often data and simulated jets of each flavour pass a working point, and how their scores are
distributed, from control regions rich in b, c and light jets.

Reads: the job outputs `analysis/<dataset>/<file>.root` (histograms of discriminants, and of pairs for shapes and for
bins in pT), `evaluation/results.json` (working points).
Writes: `calibration/corrections.json` (correctionlib, schema version 2), `calibration/results.json`, pictures in
`calibration/`.
Guarantees: results of different cards, models or trainings are never mixed; a fit that did not converge or has too
few jets is named with its reason, has no number in the files, and ends the command with exit code 75; shape weights
keep the yield of each flavour in its region.
"""
