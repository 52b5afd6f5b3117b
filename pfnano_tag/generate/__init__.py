"""Makes PFNano ROOT files, in any layout, with Pythia 8, a parametric detector and FastJet.

Reads: the card's `generate` section, or the options of the command line.
Writes: `<study.folder>/generated/<sample>/<sample>_<index>.root` and `generated/manifest.json`, or one file.
Guarantees: same settings and seed give the same content (sha256 over all branches), whatever the number of workers. A
file under its final name is complete; `(run, luminosityBlock, event)` is unique within a sample and, for data, over
all samples. The layout changes neither the events nor their jets; branch names and types are those of its producer:
the 2017 PFNano production, NanoAOD of Run 3 with the BTV customisation, PFNano's flat DeepJet inputs, DeepNTuples.

The result is a toy detector: nothing made with it is a CMS result.
"""
