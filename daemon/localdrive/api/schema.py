"""The field names of the Drive v3 schemas we answer with; made from the discovery document, 20261106.

A nested mapping or the name of another schema stands for what a field contains; None for a plain value, and
`OPEN` for a mapping with keys of the user's own (`properties`).
"""

from __future__ import annotations

from typing import Any

OPEN = "*"


def _plain(names: str) -> dict[str, Any]:
    return dict.fromkeys(names.split())


SCHEMAS: dict[str, dict[str, Any]] = {
    "About": {
        **_plain("appInstalled canCreateDrives canCreateTeamDrives folderColorPalette kind maxUploadSize"),
        "driveThemes": {**_plain("backgroundImageLink colorRgb id")},
        "exportFormats": OPEN,
        "importFormats": OPEN,
        "maxImportSizes": OPEN,
        "storageQuota": {**_plain("limit usage usageInDrive usageInDriveTrash")},
        "teamDriveThemes": {**_plain("backgroundImageLink colorRgb id")},
        "user": "User",
    },
    "Change": {
        **_plain("changeType driveId fileId kind removed teamDriveId time type"),
        "drive": "Drive",
        "file": "File",
        "teamDrive": "TeamDrive",
    },
    "ChangeList": {**_plain("kind newStartPageToken nextPageToken"), "changes": "Change"},
    "Drive": {
        **_plain("backgroundImageLink colorRgb createdTime hidden id kind name orgUnitId themeId"),
        "backgroundImageFile": {**_plain("id width xCoordinate yCoordinate")},
        "capabilities": {
            **_plain(
                "canAddChildren canChangeCopyRequiresWriterPermissionRestriction canChangeDomainUsersOnlyRestriction canChangeDownloadRestriction canChangeDriveBackground canChangeDriveMembersOnlyRestriction canChangeSharingFoldersRequiresOrganizerPermissionRestriction canComment canCopy canDeleteChildren canDeleteDrive canDownload canEdit canListChildren canManageMembers canReadRevisions canRename canRenameDrive canResetDriveRestrictions canShare canTrashChildren"
            )
        },
        "restrictions": {
            **_plain(
                "adminManagedRestrictions copyRequiresWriterPermission domainUsersOnly driveMembersOnly sharingFoldersRequiresOrganizerPermission"
            ),
            "downloadRestriction": "DownloadRestriction",
        },
    },
    "DriveList": {**_plain("kind nextPageToken"), "drives": "Drive"},
    "File": {
        **_plain(
            "copyRequiresWriterPermission createdTime description driveId explicitlyTrashed fileExtension folderColorRgb fullFileExtension hasAugmentedPermissions hasThumbnail headRevisionId iconLink id inheritedPermissionsDisabled isAppAuthorized kind md5Checksum mimeType modifiedByMe modifiedByMeTime modifiedTime name originalFilename ownedByMe parents permissionIds quotaBytesUsed resourceKey sha1Checksum sha256Checksum shared sharedWithMeTime size spaces starred teamDriveId thumbnailLink thumbnailVersion trashed trashedTime version viewedByMe viewedByMeTime viewersCanCopyContent webContentLink webViewLink writersCanShare"
        ),
        "appProperties": OPEN,
        "capabilities": {
            **_plain(
                "canAcceptOwnership canAccessViaGenAi canAddChildren canAddFolderFromAnotherDrive canAddMyDriveParent canChangeCopyRequiresWriterPermission canChangeItemDownloadRestriction canChangeSecurityUpdateEnabled canChangeViewersCanCopyContent canComment canCopy canDelete canDeleteChildren canDisableInheritedPermissions canDownload canEdit canEnableInheritedPermissions canListChildren canModifyContent canModifyContentRestriction canModifyEditorContentRestriction canModifyLabels canModifyOwnerContentRestriction canMoveChildrenOutOfDrive canMoveChildrenOutOfTeamDrive canMoveChildrenWithinDrive canMoveChildrenWithinTeamDrive canMoveItemIntoTeamDrive canMoveItemOutOfDrive canMoveItemOutOfTeamDrive canMoveItemWithinDrive canMoveItemWithinTeamDrive canMoveTeamDriveItem canReadDrive canReadLabels canReadRevisions canReadTeamDrive canRemoveChildren canRemoveContentRestriction canRemoveMyDriveParent canRename canShare canStartApproval canTrash canTrashChildren canUntrash"
            )
        },
        "clientEncryptionDetails": "ClientEncryptionDetails",
        "contentHints": {**_plain("indexableText"), "thumbnail": {**_plain("image mimeType")}},
        "contentRestrictions": "ContentRestriction",
        "downloadRestrictions": "DownloadRestrictionsMetadata",
        "exportLinks": OPEN,
        "imageMediaMetadata": {
            **_plain(
                "aperture cameraMake cameraModel colorSpace exposureBias exposureMode exposureTime flashUsed focalLength height isoSpeed lens maxApertureValue meteringMode rotation sensor subjectDistance time whiteBalance width"
            ),
            "location": {**_plain("altitude latitude longitude")},
        },
        "labelInfo": {"labels": "Label"},
        "lastModifyingUser": "User",
        "linkShareMetadata": {**_plain("securityUpdateEligible securityUpdateEnabled")},
        "owners": "User",
        "permissions": "Permission",
        "properties": OPEN,
        "sharingUser": "User",
        "shortcutDetails": {**_plain("targetId targetMimeType targetResourceKey")},
        "trashingUser": "User",
        "videoMediaMetadata": {**_plain("durationMillis height width")},
    },
    "FileList": {**_plain("incompleteSearch kind nextPageToken"), "files": "File"},
    "GeneratedIds": {**_plain("ids kind space")},
    "Revision": {
        **_plain(
            "id keepForever kind md5Checksum mimeType modifiedTime originalFilename publishAuto published publishedLink publishedOutsideDomain size"
        ),
        "exportLinks": OPEN,
        "lastModifyingUser": "User",
    },
    "RevisionList": {**_plain("kind nextPageToken"), "revisions": "Revision"},
    "StartPageToken": {**_plain("kind startPageToken")},
    "User": {**_plain("displayName emailAddress kind me permissionId photoLink")},
    "Permission": {
        **_plain(
            "allowFileDiscovery deleted displayName domain emailAddress expirationTime id inheritedPermissionsDisabled kind pendingOwner photoLink role type view"
        ),
        "permissionDetails": {**_plain("inherited inheritedFrom permissionType role")},
        "teamDrivePermissionDetails": {**_plain("inherited inheritedFrom role teamDrivePermissionType")},
    },
    "ContentRestriction": {
        **_plain("ownerRestricted readOnly reason restrictionTime systemRestricted type"),
        "restrictingUser": "User",
    },
    "DownloadRestrictionsMetadata": {
        "effectiveDownloadRestrictionWithContext": "DownloadRestriction",
        "itemDownloadRestriction": "DownloadRestriction",
    },
    "DownloadRestriction": {**_plain("restrictedForReaders restrictedForWriters")},
    "TeamDrive": {
        **_plain("backgroundImageLink colorRgb createdTime id kind name orgUnitId themeId"),
        "backgroundImageFile": {**_plain("id width xCoordinate yCoordinate")},
        "capabilities": {
            **_plain(
                "canAddChildren canChangeCopyRequiresWriterPermissionRestriction canChangeDomainUsersOnlyRestriction canChangeDownloadRestriction canChangeSharingFoldersRequiresOrganizerPermissionRestriction canChangeTeamDriveBackground canChangeTeamMembersOnlyRestriction canComment canCopy canDeleteChildren canDeleteTeamDrive canDownload canEdit canListChildren canManageMembers canReadRevisions canRemoveChildren canRename canRenameTeamDrive canResetTeamDriveRestrictions canShare canTrashChildren"
            )
        },
        "restrictions": {
            **_plain(
                "adminManagedRestrictions copyRequiresWriterPermission domainUsersOnly sharingFoldersRequiresOrganizerPermission teamMembersOnly"
            ),
            "downloadRestriction": "DownloadRestriction",
        },
    },
    "Label": {**_plain("id kind revisionId"), "fields": OPEN},
    "ClientEncryptionDetails": {**_plain("decryptionMetadata encryptionState")},
}
