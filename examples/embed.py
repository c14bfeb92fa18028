"""Embed an ECG with a trained model and a subset of leads: `python examples/embed.py FILE --leads I,II [--run RUN]`."""

import argparse
from pathlib import Path

from export.student_run.packaged import PACKAGED_RUN
from lsemvae.data.convert import twelve_leads_mv
from lsemvae.ecg.leads import LEADS, LIMB_LEADS, MEASURED_LEADS, select_leads
from lsemvae.formats.read import read_record
from lsemvae.model.embed import embed
from lsemvae.train.checkpoint import load_lsemvae, load_student
from lsemvae.train.run import read_object

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("file", type=Path, help=".ecg.npz, .csv, WFDB .hea or DICOM")
parser.add_argument("--run", type=Path, default=PACKAGED_RUN, help="run folder of a student or an LS-EMVAE")
parser.add_argument("--leads", help="as I,II [default: I,II; for an LS-EMVAE 12, 6 and 2 leads in turn]")
args = parser.parse_args()

is_lsemvae = read_object(args.run / "config.json").get("kind") == "lsemvae"
model, _ = load_lsemvae(args.run) if is_lsemvae else load_student(args.run)
ecg_mv, present = twelve_leads_mv(read_record(args.file))  # [12, 2500] in mV, and which leads were recorded
recorded = [lead for lead, there in zip(LEADS, present, strict=True) if there]
shown = [LEADS, LIMB_LEADS, MEASURED_LEADS] if is_lsemvae and present.all() else [MEASURED_LEADS]
for leads in [args.leads.split(",")] if args.leads else shown:
    embedding = embed(model, select_leads(ecg_mv[present], leads=recorded, wanted=leads)[None], leads=leads)
    print(f"{len(leads)} leads ({', '.join(leads)}): embedding {embedding.shape}, begins {embedding[0, :4].round(3)}")
