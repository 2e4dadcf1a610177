"""Codes of files, series, conversions and deliveries; no I/O."""

from __future__ import annotations

from collections.abc import Mapping

from daemon.rules.code_table.entry import Entry, either, hold, wait
from daemon.rules.codes import Code, Scope

INPUTS: Mapping[Code, Entry] = {
    Code.ABUSIVE_FILE: hold(
        "Google marked the file as harmful and refuses its download",
        "Ask the owner of the file to request a review from Google; then: sdd-dicom retry",
    ),
    Code.ARCHIVE_UNSUPPORTED: hold(
        "The file is an archive; archives are not unpacked", "Unpack it and upload the files that it holds"
    ),
    Code.DAMAGED: hold(
        "The file starts as DICOM but cannot be read to its end", "Export and upload this file again"
    ),
    Code.IDENTITY_CONFLICT: hold(
        "The images of one series name different patients or modalities",
        "Remove the files that belong to somebody else, or give them a SeriesInstanceUID of their own",
    ),
    Code.INPUTS_GONE: hold(
        "A file of the series can no longer be read, and its bytes are not in the spool",
        "Put the file back (or upload it again); then the next revision starts",
    ),
    Code.MASS_VANISHED: hold(
        "More than a fifth of all files (and more than 20), or more than 1000, left the source at once",
        what_to_do="Put the files back. If they were removed on purpose: sdd-dicom retry --reason MASS_VANISHED",
    ),
    Code.MD5_MISMATCH: wait("The downloaded bytes do not have the md5 that Drive lists"),
    Code.NO_CHECKSUM: hold(
        "Drive lists no md5 for the file, so its bytes cannot be checked",
        "Upload the file again, so that its bytes can be checked",
    ),
    Code.NO_UID: hold(
        "The header has no valid StudyInstanceUID or SeriesInstanceUID",
        "Export the exam again, or anonymise it with a tool that keeps or replaces UIDs",
    ),
    Code.NOT_DOWNLOADABLE: hold(
        "Drive does not let this account download the file, or the file has no bytes of its own",
        "Let its owner allow downloads for viewers, or upload it as a plain file",
    ),
    Code.REPLACED: hold(
        "The file has other content than the one that was delivered, so the delivery cannot be rebuilt from it",
        what_to_do="Nothing: the new content becomes the next revision",
    ),
    Code.SIZE_MISMATCH: wait("More or fewer bytes came than Drive announced"),
    Code.TRUNCATED: hold(
        "The file ends before its last pixel",
        "Upload this file again, or export it again first: the upload or the export broke off",
    ),
    Code.UNPACKED_TOO_LARGE: hold(
        "The deflated images of the series unpack to more bytes than the spool has room for",
        "Make room in the spool (work.spool_max_gb) and on its disk, then retry; or export without deflate",
    ),
}
"""Why a file or a series is not converted."""

CONVERSION: Mapping[Code, Entry] = {
    Code.CONVERTER_CRASHED: either(
        "dcm2niix crashed; it is tried again a few times first",
        "Export the series again; if it happens again, report it to the authors of dcm2niix",
    ),
    Code.CONVERTER_FAILED: hold(
        "dcm2niix ended with an error, or wrote a volume that cannot be read",
        "Export and upload the series again, then retry",
    ),
    Code.CONVERTER_MEMORY: either(
        "dcm2niix needs more memory than work.convert_memory_gb; it is tried again a few times first",
        "Raise work.convert_memory_gb, then retry",
    ),
    Code.CONVERTER_OUTPUT_TOO_LARGE: hold(
        "dcm2niix wrote more bytes than the series can have",
        "Make room in the spool (work.spool_max_gb), then retry; a series that grows like this may be damaged",
    ),
    Code.CONVERTER_TIMEOUT: either(
        "dcm2niix ran longer than work.convert_timeout_s; it is tried again a few times first",
        "Raise work.convert_timeout_s, then retry; if it happens again, the series may be damaged",
    ),
    Code.NO_VOLUME: hold(
        "dcm2niix made no volume and gave no error",
        "Export the series again as original, uncompressed images",
    ),
    Code.UNSUPPORTED_SYNTAX: hold(
        "The images are compressed in a way that dcm2niix cannot read", "Export the series again uncompressed"
    ),
}
"""What dcm2niix could not do."""

DELIVERY: Mapping[Code, Entry] = {
    Code.CANNOT_MOVE: hold(
        "Drive refuses to move the delivery out of the staging folder",
        "Put source, output and staging on the same drive, owned by the account",
    ),
    Code.CONFLICT: hold("Drive reports a conflict with another change", "Look at the item in Drive"),
    Code.DELIVERY_TRASHED: hold(
        "A person trashed or deleted the delivery; the service makes it again only if you ask for it",
        what_to_do="Take the folder out of the trash, or make the delivery again: sdd-dicom process SERIES",
    ),
    Code.DELIVERY_UNREADABLE: hold(
        "A delivery of this series is in the output folder, but its manifest.json cannot be read",
        "Restore its manifest.json and restart the service; or trash the folder, then: sdd-dicom retry"
        " --reason DELIVERY_UNREADABLE",
    ),
    Code.EDITED: hold(
        "A person edited, trashed or moved results of the delivery; the service overwrites them only if you ask for it",
        what_to_do="Undo the change, or let it be overwritten: sdd-dicom process SERIES",
    ),
    Code.FOREIGN_RESULT: hold(
        "Several times, a reserved Drive id belonged to an item that the service did not make",
        "See who works in the folder .sdd-dicom, then: sdd-dicom retry --reason FOREIGN_RESULT",
    ),
    Code.HELD_TSV_DIFFERS: wait("held.tsv on Drive is not what was uploaded"),
    Code.HELD_TSV_GONE: wait("held.tsv is no longer on Drive; a new one is made"),
    Code.ID_REFUSED: either("Drive does not accept a reserved id; the service reserves another one"),
    Code.MOVED_MEANWHILE: wait("An item was moved while the service worked on it; the service looks again"),
    Code.NO_IDS: wait("No Drive ids could be reserved"),
    Code.NOT_YET_VISIBLE: wait("An item that was just made cannot be read yet"),
    Code.OUTPUT_TRASHED: hold(
        "The output folder, or a folder on the way to it, was trashed or deleted",
        "Take it out of the trash, or name another one in config.toml; the service then continues",
        Scope.UPLOADS,
    ),
    Code.OUTPUT_UNSEEN: wait("The output folder cannot be read now"),
    Code.STAGING_GONE: wait("The staging folder is gone; a new one is made"),
}
"""Why results are not delivered."""
