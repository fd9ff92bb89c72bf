# SPDX-License-Identifier: Apache-2.0
"""What lies in guest/ is for the inside of the machine, where run.sh says so."""
import os

collect_ignore = [] if os.environ.get("HOLM_VM") else ["guest"]
