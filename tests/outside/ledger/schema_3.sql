-- A ledger of schema 3, as sdd-dicom before the new table names left it: two series delivered, a late slice of the second
-- one read and not yet settled. Made-up exams; three ids are left of the pool.
BEGIN TRANSACTION;
CREATE TABLE departure (                  -- files that left the source within the last minutes: so many are held
    file_id    TEXT PRIMARY KEY,
    at_epoch_s REAL NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE file (                       -- one row for each (file, head revision)
    rank               INTEGER PRIMARY KEY AUTOINCREMENT,   -- listing order, which is the order of names
    file_id            TEXT NOT NULL,
    head_revision_id   TEXT NOT NULL,
    current            INTEGER NOT NULL,  -- 1: the newest head revision that was seen
    version            INTEGER NOT NULL,  -- Drive's, orders observations
    md5_checksum       TEXT NOT NULL,
    size_bytes         INTEGER NOT NULL,
    modified_time      TEXT NOT NULL,
    can_read_revisions INTEGER NOT NULL,
    parent_id          TEXT NOT NULL,     -- where it counts as lying: a shortcut's target lies where the shortcut lies
    exam_folder_id     TEXT NOT NULL,
    exam_rank          INTEGER NOT NULL,
    folder_rank        INTEGER NOT NULL,
    whereabouts        TEXT NOT NULL,     -- PRESENT TRASHED OUTSIDE UNREADABLE GONE; kept up in the current row
    listing_id         INTEGER NOT NULL DEFAULT 0,          -- the listing that showed it last
    first_seen_epoch_s REAL NOT NULL,
    state              TEXT NOT NULL,
    reason             TEXT NOT NULL DEFAULT '',
    rules_version      INTEGER NOT NULL,
    not_before_epoch_s REAL NOT NULL DEFAULT 0,
    tries              INTEGER NOT NULL DEFAULT 0,
    held_code          TEXT NOT NULL DEFAULT '',
    held_remedy        TEXT NOT NULL DEFAULT '',
    held_since_epoch_s REAL NOT NULL DEFAULT 0,
    UNIQUE (file_id, head_revision_id)
) STRICT;
INSERT INTO "file" VALUES(1,'1UPt3ghC3xQnAQqjRh_XHZnbImex8eyX4','0B-SxSWdIi6WQMfJtwcnJqh5xHVrs_VSsfVzLfXNOs-IvVz-s8r',1,1,'163825e24ef4089bc56a1c378b4b243d',3230,'2026-11-28T10:27:24.745Z',1,'1-hEUMuZ6YJ169VvZa7v4LiAcQeRPH1n0','1-hEUMuZ6YJ169VvZa7v4LiAcQeRPH1n0',2,2,'PRESENT',2,1.79586164538287496568e+09,'FILED','',1,0.0,0,'','',0.0);
INSERT INTO "file" VALUES(2,'17hfLK4SDkOBYwqSwVnUDVbN6LKKBwVYg','0BuQhHAHScwkIl00_cozT3Bkxij8ngPk2QVqGJJbDOLnQ5Xn9U1',1,1,'9b52741150108956e6ceed8d1efd3f33',3230,'2026-11-28T10:27:24.769Z',1,'1-hEUMuZ6YJ169VvZa7v4LiAcQeRPH1n0','1-hEUMuZ6YJ169VvZa7v4LiAcQeRPH1n0',2,2,'PRESENT',2,1.79586164538287496568e+09,'FILED','',1,0.0,0,'','',0.0);
INSERT INTO "file" VALUES(3,'1doLymVcEszSwbS6RgtKv0F-idpxL_KJZ','0BoepJeX43Wxmki8VAv3u91oRknIprbKY-mLLt8fB8tOEKqIqTh',1,1,'69a6935f0c4eed6c56f39dd6a678701a',3234,'2026-11-28T10:27:24.781Z',1,'1-hEUMuZ6YJ169VvZa7v4LiAcQeRPH1n0','1-hEUMuZ6YJ169VvZa7v4LiAcQeRPH1n0',2,2,'PRESENT',2,1.79586164538287496568e+09,'FILED','',1,0.0,0,'','',0.0);
INSERT INTO "file" VALUES(4,'1uMytiskBtHwc0HCoqjGZQdVg5ywm_11o','0BejpBQh6HXHt6d3ehLw9FyQb68GqJEtq8SrWUnUUKiAuLPfxoT',1,1,'a89aa4363d08f989bd6cf872bffd6d26',3234,'2026-11-28T10:27:24.796Z',1,'1-hEUMuZ6YJ169VvZa7v4LiAcQeRPH1n0','1-hEUMuZ6YJ169VvZa7v4LiAcQeRPH1n0',2,2,'PRESENT',2,1.79586164538287496568e+09,'FILED','',1,0.0,0,'','',0.0);
INSERT INTO "file" VALUES(5,'1cWq72nXiY28G32l9dWMJGc0G3lwDTMET','0BKYrPW8kS6b6tMv6r6JzZAMCfErxG4SKdcD09-mEUnXDNlztID',1,1,'f22f0528036303cb12df628c37dec35c',3232,'2026-11-28T10:27:24.824Z',1,'1K_HoRAHrQmAvSL-Zfc9RkgdehO3Q6h1g','1K_HoRAHrQmAvSL-Zfc9RkgdehO3Q6h1g',4,4,'PRESENT',3,1.79586164541060733798e+09,'FILED','',1,0.0,0,'','',0.0);
INSERT INTO "file" VALUES(6,'1OzrN4rleGNhJlCZLFbo3-IsZrH0z__Bs','0BtMy7Hx5XHBdo5gLHPE8YlP8UaRe3Q59QlsTomMkKib4tQI6Rg',1,1,'84ee195772307ca0c20146f83fd8d915',3236,'2026-11-28T10:27:24.843Z',1,'1K_HoRAHrQmAvSL-Zfc9RkgdehO3Q6h1g','1K_HoRAHrQmAvSL-Zfc9RkgdehO3Q6h1g',4,4,'PRESENT',3,1.79586164541060733798e+09,'FILED','',1,0.0,0,'','',0.0);
INSERT INTO "file" VALUES(7,'1ZhAJl3TG_mDcwCAyjDawb7Bj0rEWIsz6','0Bmv52Kudof7yRJzChEekrZIzn04tOrEqKE4LGYYIvnukKQ7T-4',1,1,'ca2712060720eddc10f0e975dc075583',3236,'2026-11-28T10:27:24.845Z',1,'1K_HoRAHrQmAvSL-Zfc9RkgdehO3Q6h1g','1K_HoRAHrQmAvSL-Zfc9RkgdehO3Q6h1g',4,4,'PRESENT',3,1.79586164541060733798e+09,'FILED','',1,0.0,0,'','',0.0);
INSERT INTO "file" VALUES(8,'19XiPBRfJcUnZgtrdYXOsh6ONYgfNN8NX','0BKJsWdyqVfyVSYsCu-KCbs7GmBUKnejsBjLjm1A0NmrPJ5frOc',1,1,'706bebc78ad992a07e4c1ce0f39def81',8,'2026-11-28T10:27:24.845Z',1,'1K_HoRAHrQmAvSL-Zfc9RkgdehO3Q6h1g','1K_HoRAHrQmAvSL-Zfc9RkgdehO3Q6h1g',4,4,'PRESENT',3,1.79586164541060733798e+09,'IGNORED','NOT_DICOM',1,0.0,0,'','',0.0);
INSERT INTO "file" VALUES(9,'1QajVVPelN0tQHvWoautN55tF7k8_Xv91','0BqROV1seEE_MOBA4nw8SODkct1gnHZVviutUVoFQZiHpig6xXa',1,1,'69c1c998732227a5b1d009e026041683',3232,'2026-11-28T10:27:26.429Z',1,'1K_HoRAHrQmAvSL-Zfc9RkgdehO3Q6h1g','1K_HoRAHrQmAvSL-Zfc9RkgdehO3Q6h1g',4,4,'PRESENT',0,1.79586164656740546229e+09,'FILED','',1,0.0,0,'','',0.0);
CREATE TABLE folder (                     -- folders of the source in the order they were first seen
    rank      INTEGER PRIMARY KEY AUTOINCREMENT,
    folder_id TEXT NOT NULL UNIQUE,
    listed    INTEGER NOT NULL DEFAULT 0, -- 1: listed to its end since it came to where it is
    parent_id TEXT NOT NULL DEFAULT ''    -- its parent when it was listed
) STRICT;
INSERT INTO "folder" VALUES(1,'10q8Lmw962wEvyk4_d1sP79lGELmfl0Hb',1,'0A6Z8iXU0JywK8TRPVA');
INSERT INTO "folder" VALUES(2,'1-hEUMuZ6YJ169VvZa7v4LiAcQeRPH1n0',1,'10q8Lmw962wEvyk4_d1sP79lGELmfl0Hb');
INSERT INTO "folder" VALUES(4,'1K_HoRAHrQmAvSL-Zfc9RkgdehO3Q6h1g',1,'10q8Lmw962wEvyk4_d1sP79lGELmfl0Hb');
CREATE TABLE instance (
    file_id                TEXT NOT NULL,
    head_revision_id       TEXT NOT NULL,
    member                 TEXT NOT NULL,                   -- '' for a plain file
    series_id              INTEGER NOT NULL REFERENCES series,
    md5_checksum           TEXT NOT NULL,
    sop_instance_uid       TEXT NOT NULL,
    patient_key            TEXT NOT NULL,                   -- salted hash of PatientID; '' when absent
    modality               TEXT NOT NULL,
    is_image               INTEGER NOT NULL,
    filed_epoch_s          REAL NOT NULL,
    PRIMARY KEY (file_id, head_revision_id, member)
) STRICT, WITHOUT ROWID;
INSERT INTO "instance" VALUES('17hfLK4SDkOBYwqSwVnUDVbN6LKKBwVYg','0BuQhHAHScwkIl00_cozT3Bkxij8ngPk2QVqGJJbDOLnQ5Xn9U1','',1,'9b52741150108956e6ceed8d1efd3f33','2.25.112330248004581855732550790278108989122','8453ef75948b4b81dab533acba65c4f5','CT',1,1.79586164544355201717e+09);
INSERT INTO "instance" VALUES('1OzrN4rleGNhJlCZLFbo3-IsZrH0z__Bs','0BtMy7Hx5XHBdo5gLHPE8YlP8UaRe3Q59QlsTomMkKib4tQI6Rg','',2,'84ee195772307ca0c20146f83fd8d915','2.25.87815948396945173214127611823191706199','8453ef75948b4b81dab533acba65c4f5','CT',1,1.79586164553960084917e+09);
INSERT INTO "instance" VALUES('1QajVVPelN0tQHvWoautN55tF7k8_Xv91','0BqROV1seEE_MOBA4nw8SODkct1gnHZVviutUVoFQZiHpig6xXa','',2,'69c1c998732227a5b1d009e026041683','2.25.180863805576912800663734758456455070093','8453ef75948b4b81dab533acba65c4f5','CT',1,1.79586164661941313745e+09);
INSERT INTO "instance" VALUES('1UPt3ghC3xQnAQqjRh_XHZnbImex8eyX4','0B-SxSWdIi6WQMfJtwcnJqh5xHVrs_VSsfVzLfXNOs-IvVz-s8r','',1,'163825e24ef4089bc56a1c378b4b243d','2.25.305035367832194560147910352892592517622','8453ef75948b4b81dab533acba65c4f5','CT',1,1.7958616454716045856e+09);
INSERT INTO "instance" VALUES('1ZhAJl3TG_mDcwCAyjDawb7Bj0rEWIsz6','0Bmv52Kudof7yRJzChEekrZIzn04tOrEqKE4LGYYIvnukKQ7T-4','',2,'ca2712060720eddc10f0e975dc075583','2.25.336548830410471704731417462386069332038','8453ef75948b4b81dab533acba65c4f5','CT',1,1.79586164554675269122e+09);
INSERT INTO "instance" VALUES('1cWq72nXiY28G32l9dWMJGc0G3lwDTMET','0BKYrPW8kS6b6tMv6r6JzZAMCfErxG4SKdcD09-mEUnXDNlztID','',2,'f22f0528036303cb12df628c37dec35c','2.25.224336846687042898657839143481310318191','8453ef75948b4b81dab533acba65c4f5','CT',1,1.7958616455502009392e+09);
INSERT INTO "instance" VALUES('1doLymVcEszSwbS6RgtKv0F-idpxL_KJZ','0BoepJeX43Wxmki8VAv3u91oRknIprbKY-mLLt8fB8tOEKqIqTh','',1,'69a6935f0c4eed6c56f39dd6a678701a','2.25.244598397225890280974250543576703630763','8453ef75948b4b81dab533acba65c4f5','CT',1,1.79586164546613430981e+09);
INSERT INTO "instance" VALUES('1uMytiskBtHwc0HCoqjGZQdVg5ywm_11o','0BejpBQh6HXHt6d3ehLw9FyQb68GqJEtq8SrWUnUUKiAuLPfxoT','',1,'a89aa4363d08f989bd6cf872bffd6d26','2.25.11080898210664671440999258889076030349','8453ef75948b4b81dab533acba65c4f5','CT',1,1.79586164545080113411e+09);
CREATE TABLE life (                       -- what happened, for `why`
    at_epoch_s REAL NOT NULL,
    subject    TEXT NOT NULL,             -- a file id, or 'series:<series_id>'
    n          INTEGER NOT NULL DEFAULT 0,
    event      TEXT NOT NULL,
    detail     TEXT NOT NULL DEFAULT ''
) STRICT;
INSERT INTO "life" VALUES(1.79586164538287496568e+09,'1UPt3ghC3xQnAQqjRh_XHZnbImex8eyX4',0,'Seen','0B-SxSWdIi6WQMfJtwcnJqh5xHVrs_VSsfVzLfXNOs-IvVz-s8r');
INSERT INTO "life" VALUES(1.79586164538287496568e+09,'17hfLK4SDkOBYwqSwVnUDVbN6LKKBwVYg',0,'Seen','0BuQhHAHScwkIl00_cozT3Bkxij8ngPk2QVqGJJbDOLnQ5Xn9U1');
INSERT INTO "life" VALUES(1.79586164538287496568e+09,'1doLymVcEszSwbS6RgtKv0F-idpxL_KJZ',0,'Seen','0BoepJeX43Wxmki8VAv3u91oRknIprbKY-mLLt8fB8tOEKqIqTh');
INSERT INTO "life" VALUES(1.79586164538287496568e+09,'1uMytiskBtHwc0HCoqjGZQdVg5ywm_11o',0,'Seen','0BejpBQh6HXHt6d3ehLw9FyQb68GqJEtq8SrWUnUUKiAuLPfxoT');
INSERT INTO "life" VALUES(1.79586164541060733798e+09,'1cWq72nXiY28G32l9dWMJGc0G3lwDTMET',0,'Seen','0BKYrPW8kS6b6tMv6r6JzZAMCfErxG4SKdcD09-mEUnXDNlztID');
INSERT INTO "life" VALUES(1.79586164541060733798e+09,'1OzrN4rleGNhJlCZLFbo3-IsZrH0z__Bs',0,'Seen','0BtMy7Hx5XHBdo5gLHPE8YlP8UaRe3Q59QlsTomMkKib4tQI6Rg');
INSERT INTO "life" VALUES(1.79586164541060733798e+09,'1ZhAJl3TG_mDcwCAyjDawb7Bj0rEWIsz6',0,'Seen','0Bmv52Kudof7yRJzChEekrZIzn04tOrEqKE4LGYYIvnukKQ7T-4');
INSERT INTO "life" VALUES(1.79586164541060733798e+09,'19XiPBRfJcUnZgtrdYXOsh6ONYgfNN8NX',0,'Seen','0BKJsWdyqVfyVSYsCu-KCbs7GmBUKnejsBjLjm1A0NmrPJ5frOc');
INSERT INTO "life" VALUES(1.79586164544355201717e+09,'17hfLK4SDkOBYwqSwVnUDVbN6LKKBwVYg',0,'Fetched','');
INSERT INTO "life" VALUES(1.79586164544355201717e+09,'17hfLK4SDkOBYwqSwVnUDVbN6LKKBwVYg',0,'Filed','');
INSERT INTO "life" VALUES(1.79586164548700761797e+09,'series:1',1,'Gathering','');
INSERT INTO "life" VALUES(1.79586164545080113411e+09,'1uMytiskBtHwc0HCoqjGZQdVg5ywm_11o',0,'Fetched','');
INSERT INTO "life" VALUES(1.79586164545080113411e+09,'1uMytiskBtHwc0HCoqjGZQdVg5ywm_11o',0,'Filed','');
INSERT INTO "life" VALUES(1.79586164546613430981e+09,'1doLymVcEszSwbS6RgtKv0F-idpxL_KJZ',0,'Fetched','');
INSERT INTO "life" VALUES(1.79586164546613430981e+09,'1doLymVcEszSwbS6RgtKv0F-idpxL_KJZ',0,'Filed','');
INSERT INTO "life" VALUES(1.7958616454716045856e+09,'1UPt3ghC3xQnAQqjRh_XHZnbImex8eyX4',0,'Fetched','');
INSERT INTO "life" VALUES(1.7958616454716045856e+09,'1UPt3ghC3xQnAQqjRh_XHZnbImex8eyX4',0,'Filed','');
INSERT INTO "life" VALUES(1.79586164548700761797e+09,'series:1',1,'Settled','4 quiet');
INSERT INTO "life" VALUES(1.79586164553960084917e+09,'1OzrN4rleGNhJlCZLFbo3-IsZrH0z__Bs',0,'Fetched','');
INSERT INTO "life" VALUES(1.79586164553960084917e+09,'1OzrN4rleGNhJlCZLFbo3-IsZrH0z__Bs',0,'Filed','');
INSERT INTO "life" VALUES(1.79586164554235601428e+09,'19XiPBRfJcUnZgtrdYXOsh6ONYgfNN8NX',0,'Fetched','');
INSERT INTO "life" VALUES(1.79586164554235601428e+09,'19XiPBRfJcUnZgtrdYXOsh6ONYgfNN8NX',0,'Ignored','NOT_DICOM');
INSERT INTO "life" VALUES(1.79586164554675269122e+09,'1ZhAJl3TG_mDcwCAyjDawb7Bj0rEWIsz6',0,'Fetched','');
INSERT INTO "life" VALUES(1.79586164554675269122e+09,'1ZhAJl3TG_mDcwCAyjDawb7Bj0rEWIsz6',0,'Filed','');
INSERT INTO "life" VALUES(1.7958616455502009392e+09,'1cWq72nXiY28G32l9dWMJGc0G3lwDTMET',0,'Fetched','');
INSERT INTO "life" VALUES(1.7958616455502009392e+09,'1cWq72nXiY28G32l9dWMJGc0G3lwDTMET',0,'Filed','');
INSERT INTO "life" VALUES(1.79586164557846713067e+09,'series:2',1,'Gathering','');
INSERT INTO "life" VALUES(1.79586164557846713067e+09,'series:2',1,'Settled','3 quiet');
INSERT INTO "life" VALUES(1.79586164579752516744e+09,'series:1',1,'Converted','3 results');
INSERT INTO "life" VALUES(1.79586164579985642429e+09,'series:2',1,'Converted','4 results');
INSERT INTO "life" VALUES(1.79586164600240945823e+09,'series:1',1,'Reserved','');
INSERT INTO "life" VALUES(1.79586164600775051122e+09,'series:2',1,'Reserved','');
INSERT INTO "life" VALUES(1.79586164609000301355e+09,'series:1',1,'Delivered','');
INSERT INTO "life" VALUES(1.79586164609200787545e+09,'series:2',1,'Delivered','');
INSERT INTO "life" VALUES(1.79586164656740546229e+09,'1QajVVPelN0tQHvWoautN55tF7k8_Xv91',0,'Seen','0BqROV1seEE_MOBA4nw8SODkct1gnHZVviutUVoFQZiHpig6xXa');
INSERT INTO "life" VALUES(1.79586164661941313745e+09,'1QajVVPelN0tQHvWoautN55tF7k8_Xv91',0,'Fetched','');
INSERT INTO "life" VALUES(1.79586164661941313745e+09,'1QajVVPelN0tQHvWoautN55tF7k8_Xv91',0,'Filed','');
INSERT INTO "life" VALUES(1.79586164671624636652e+09,'series:2',2,'Gathering','');
CREATE TABLE listing (                    -- folders that are owed a listing, or were listed in a crawl still under way
    listing_id INTEGER PRIMARY KEY AUTOINCREMENT,
    crawl_id   INTEGER NOT NULL,
    folder_id  TEXT NOT NULL,
    position   TEXT NOT NULL,             -- depth first, names in order
    done       INTEGER NOT NULL DEFAULT 0,
    UNIQUE (crawl_id, folder_id)
) STRICT;
CREATE TABLE litter (                     -- abandoned attempts on Drive that are to be trashed
    file_id TEXT PRIMARY KEY
) STRICT, WITHOUT ROWID;
CREATE TABLE meta (                       -- one row a fact about the whole
    key   TEXT PRIMARY KEY,               -- generation, feed_seq, source_id, output_id, salt …
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO "meta" VALUES('crawl_due_epoch_s','1795862545.2902691');
INSERT INTO "meta" VALUES('crawled_epoch_s','1795861645.2804773');
INSERT INTO "meta" VALUES('feed_seq','2');
INSERT INTO "meta" VALUES('generation','3cff1fb30adab9f0');
INSERT INTO "meta" VALUES('held_tsv_md5','');
INSERT INTO "meta" VALUES('last_crawl_id','1');
INSERT INTO "meta" VALUES('output_accepted','1-8WqxIKnLZlsg8f7nmW1VKAYBHWxll27');
INSERT INTO "meta" VALUES('output_id','1-8WqxIKnLZlsg8f7nmW1VKAYBHWxll27');
INSERT INTO "meta" VALUES('output_ref','path:NIfTI');
INSERT INTO "meta" VALUES('salt','bd251b2dda183d1d637c441e5b33ad1f');
INSERT INTO "meta" VALUES('source_id','10q8Lmw962wEvyk4_d1sP79lGELmfl0Hb');
INSERT INTO "meta" VALUES('source_ref','path:DICOM');
INSERT INTO "meta" VALUES('staging_parent:1-8WqxIKnLZlsg8f7nmW1VKAYBHWxll27','0A6Z8iXU0JywK8TRPVA');
CREATE TABLE out_folder (                 -- folders we make: one row each, so that a folder has one maker
    parent_id        TEXT NOT NULL,
    source_folder_id TEXT NOT NULL,       -- what it mirrors; 'staging' and 'held.tsv' for our own
    folder_id        TEXT NOT NULL UNIQUE,
    made             INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (parent_id, source_folder_id)
) STRICT, WITHOUT ROWID;
INSERT INTO "out_folder" VALUES('0A6Z8iXU0JywK8TRPVA','output:NIfTI','1-8WqxIKnLZlsg8f7nmW1VKAYBHWxll27',1);
INSERT INTO "out_folder" VALUES('0A6Z8iXU0JywK8TRPVA','staging','1-P0mIUsuuc8zRduxvRx_P-gwBUcxX3BF',1);
INSERT INTO "out_folder" VALUES('1-8WqxIKnLZlsg8f7nmW1VKAYBHWxll27','1-hEUMuZ6YJ169VvZa7v4LiAcQeRPH1n0','1-S-zckzMzof_lKuV5iMrikqKYaiYOnSL',1);
INSERT INTO "out_folder" VALUES('1-8WqxIKnLZlsg8f7nmW1VKAYBHWxll27','1K_HoRAHrQmAvSL-Zfc9RkgdehO3Q6h1g','1-TnWqAKRogDzO2t7t2ImjkWZ5OJZq8B_',1);
CREATE TABLE owned (                      -- what a visible delivery consists of
    series_id INTEGER NOT NULL,
    name      TEXT NOT NULL,
    file_id   TEXT NOT NULL,
    PRIMARY KEY (series_id, name)
) STRICT, WITHOUT ROWID;
INSERT INTO "owned" VALUES(1,'3_THORAX_AXIAL_ffd03534.json','1-BTOJkAgdOT00gvRnoYTcHByXF1EUuR-');
INSERT INTO "owned" VALUES(1,'3_THORAX_AXIAL_ffd03534.nii.gz','1-EOiVeFjt8FWSg2ZUr0hHyKAZ_V5EF1m');
INSERT INTO "owned" VALUES(1,'manifest.json','1-GpdX_ugC8LzabFj0Ik9ND0lmlVgFrnd');
INSERT INTO "owned" VALUES(1,'preview.jpg','1-ISPI-SZ75R6Y6czIkMDN3YQ94rbba9U');
INSERT INTO "owned" VALUES(2,'3_THORAX_AXIAL_f6f2e82a.json','1-1EI1FSrx_18M6i3fYxtiKYhyNhmjNJE');
INSERT INTO "owned" VALUES(2,'3_THORAX_AXIAL_f6f2e82a.nii.gz','1-2LANjJvUjN9LKD6bkNhWQ_6vsNCGeoV');
INSERT INTO "owned" VALUES(2,'3_THORAX_AXIAL_f6f2e82a_Eq_1.nii.gz','1-5AbPSS95ngN49UiLQgc03qGy9j4c54-');
INSERT INTO "owned" VALUES(2,'manifest.json','1-6A6NYL65L4JKOr8jL_YmfV9VhMz45sJ');
INSERT INTO "owned" VALUES(2,'preview.jpg','1-8Nb9o3tXzW5zCD67-8xLH7_jrkndx_9');
CREATE TABLE question (                   -- ids whose state Drive must be asked for (files.get)
    file_id TEXT PRIMARY KEY
) STRICT, WITHOUT ROWID;
CREATE TABLE recheck (                    -- folders that moved, went or came back: what lies under them is placed anew
    folder_id TEXT PRIMARY KEY
) STRICT, WITHOUT ROWID;
CREATE TABLE result (
    series_id    INTEGER NOT NULL,
    n            INTEGER NOT NULL,
    name         TEXT NOT NULL,
    mime_type    TEXT NOT NULL,
    size_bytes   INTEGER NOT NULL,
    sha256       TEXT NOT NULL,
    md5_checksum TEXT NOT NULL,
    file_id      TEXT NOT NULL DEFAULT '',                  -- reserved before the first byte goes up
    verified     INTEGER NOT NULL DEFAULT 0,                -- 1: read back from Drive with this md5
    PRIMARY KEY (series_id, n, name)
) STRICT, WITHOUT ROWID;
INSERT INTO "result" VALUES(1,1,'3_THORAX_AXIAL_ffd03534.json','application/json',487,'8f069e2298851037d1e8fb0462a101eeb5b6c7bcab35ce61c96626608745096b','9e60c55f49e58a2d21d28edf073a16eb','1-BTOJkAgdOT00gvRnoYTcHByXF1EUuR-',1);
INSERT INTO "result" VALUES(1,1,'3_THORAX_AXIAL_ffd03534.nii.gz','application/gzip',5118,'b730844714da1ae44b65315401174c254a7880818c26bbf7a5001be84554c335','095d63de0556da3de5ff88a5819e6e94','1-EOiVeFjt8FWSg2ZUr0hHyKAZ_V5EF1m',1);
INSERT INTO "result" VALUES(1,1,'manifest.json','application/json',2486,'c20d01784e3faa84c19904dbc2bc8ee76775d75f7e48b029775779fec4c9dd45','945a2d13b36d919f5741b7abb8bbc5eb','1-GpdX_ugC8LzabFj0Ik9ND0lmlVgFrnd',1);
INSERT INTO "result" VALUES(1,1,'preview.jpg','image/jpeg',8513,'2fdf8a2775c43ad4939266fdd5279d2b7a04ed590187835a8914f811c6763440','302fe6595cb1f748a3d8cd4b092fc67b','1-ISPI-SZ75R6Y6czIkMDN3YQ94rbba9U',1);
INSERT INTO "result" VALUES(2,1,'3_THORAX_AXIAL_f6f2e82a.json','application/json',487,'8f069e2298851037d1e8fb0462a101eeb5b6c7bcab35ce61c96626608745096b','9e60c55f49e58a2d21d28edf073a16eb','1-1EI1FSrx_18M6i3fYxtiKYhyNhmjNJE',1);
INSERT INTO "result" VALUES(2,1,'3_THORAX_AXIAL_f6f2e82a.nii.gz','application/gzip',3880,'dee3d7d26d46c7153c454e1f3c3dc72fa927f22db5e4525be9d3bbb2b40a2d2b','d5df0e8ce2715c9a594169aaca139296','1-2LANjJvUjN9LKD6bkNhWQ_6vsNCGeoV',1);
INSERT INTO "result" VALUES(2,1,'3_THORAX_AXIAL_f6f2e82a_Eq_1.nii.gz','application/gzip',5223,'ade52d9885462164bc90e10445bd1ec5062b7f0e14357fd98108cc4e4a08d651','16141e1c196695290da2d1faae80e666','1-5AbPSS95ngN49UiLQgc03qGy9j4c54-',1);
INSERT INTO "result" VALUES(2,1,'manifest.json','application/json',2881,'720e8e31d95bdfdee2c6855155c03f8cc240c0b02fbb749a1609743a0a12572f','655f0d0f8f6bdaddd569a87f35ad6bbc','1-6A6NYL65L4JKOr8jL_YmfV9VhMz45sJ',1);
INSERT INTO "result" VALUES(2,1,'preview.jpg','image/jpeg',6668,'bca4271acd43e4ff4305cd7293d3806d5f80193d27ce82c9c1625217244235b9','0af47f79afbcdedfbde67fd76ba77a4f','1-8Nb9o3tXzW5zCD67-8xLH7_jrkndx_9',1);
CREATE TABLE revision (
    series_id          INTEGER NOT NULL REFERENCES series,
    n                  INTEGER NOT NULL,
    state              TEXT NOT NULL,
    deliberate         INTEGER NOT NULL DEFAULT 0,          -- 1: a person asked for it (`process`)
    content_key        TEXT NOT NULL DEFAULT '',            -- set when SETTLED
    reason             TEXT NOT NULL DEFAULT '',            -- why IGNORED, or how it settled
    not_before_epoch_s REAL NOT NULL DEFAULT 0,
    tries              INTEGER NOT NULL DEFAULT 0,
    held_code          TEXT NOT NULL DEFAULT '',
    held_remedy        TEXT NOT NULL DEFAULT '',
    held_since_epoch_s REAL NOT NULL DEFAULT 0,
    attempt            INTEGER NOT NULL DEFAULT 1,          -- grows when an attempt is abandoned
    made_at            TEXT NOT NULL DEFAULT '',            -- RFC 3339, when CONVERTED
    facts              TEXT NOT NULL DEFAULT '{}',          -- JSON: verdict, volumes, warnings, tools of the conversion
    staging_folder_id  TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (series_id, n)
) STRICT, WITHOUT ROWID;
INSERT INTO "revision" VALUES(1,1,'DELIVERED',0,'5a0c7abfe1836e8d0bdc4eeea8c0cf13671b815fb128f6d9a870d0220c26b761','quiet',0.0,0,'','',0.0,1,'2026-11-28T10:27:25Z','{"verdict": {"usable": "yes", "codes": [], "sentences": []}, "volumes": [{"name": "3_THORAX_AXIAL_ffd03534.nii.gz", "role": "primary", "sidecar": "3_THORAX_AXIAL_ffd03534.json", "shape": [32, 32, 4], "extras": []}], "warnings": ["the manufacturer is not given"], "tools": {"sdd-dicom": "0.1.0", "dcm2niix": "1.0.20260724", "arguments": ["-g", "i", "-b", "y", "-ba", "y", "-3", "-z", "i", "-w", "2"]}}','1-Ltd9CGR6qPvoTPpNVPV5TFp2UYdaLBr');
INSERT INTO "revision" VALUES(2,1,'DELIVERED',0,'0fcc7f480762dc43c28a90e33641f62718cfa34cf7a1db89b6714cc4b46e4a08','quiet',0.0,0,'','',0.0,1,'2026-11-28T10:27:25Z','{"verdict": {"usable": "with-care", "codes": ["GAP"], "sentences": ["1 slice is missing, judging by the usual distance of 5.00 mm: 1 between images 1 and 3. The plain volume is too short there; a resampled one, if present, fills the gap by interpolation."]}, "volumes": [{"name": "3_THORAX_AXIAL_f6f2e82a.nii.gz", "role": "plain", "sidecar": "3_THORAX_AXIAL_f6f2e82a.json", "shape": [32, 32, 3], "extras": []}, {"name": "3_THORAX_AXIAL_f6f2e82a_Eq_1.nii.gz", "role": "primary", "sidecar": "", "shape": [32, 32, 4], "extras": []}], "warnings": ["the manufacturer is not given", "image numbers do not follow the positions", "the distance between slices varies", "images may be missing"], "tools": {"sdd-dicom": "0.1.0", "dcm2niix": "1.0.20260724", "arguments": ["-g", "i", "-b", "y", "-ba", "y", "-3", "-z", "i", "-w", "2"]}}','1-AkohLfPKal6g4uYthyPcAlg_l0psW4Y');
INSERT INTO "revision" VALUES(2,2,'GATHERING',0,'','',0.0,0,'','',0.0,1,'','{}','');
CREATE TABLE revision_input (             -- frozen at SETTLED
    series_id        INTEGER NOT NULL,
    n                INTEGER NOT NULL,
    file_id          TEXT NOT NULL,
    head_revision_id TEXT NOT NULL,
    member           TEXT NOT NULL,
    md5_checksum     TEXT NOT NULL,
    sop_instance_uid TEXT NOT NULL,
    dropped          TEXT NOT NULL DEFAULT '',              -- reason; set when CONVERTED
    PRIMARY KEY (series_id, n, file_id, head_revision_id, member)
) STRICT, WITHOUT ROWID;
INSERT INTO "revision_input" VALUES(1,1,'17hfLK4SDkOBYwqSwVnUDVbN6LKKBwVYg','0BuQhHAHScwkIl00_cozT3Bkxij8ngPk2QVqGJJbDOLnQ5Xn9U1','','9b52741150108956e6ceed8d1efd3f33','2.25.112330248004581855732550790278108989122','');
INSERT INTO "revision_input" VALUES(1,1,'1UPt3ghC3xQnAQqjRh_XHZnbImex8eyX4','0B-SxSWdIi6WQMfJtwcnJqh5xHVrs_VSsfVzLfXNOs-IvVz-s8r','','163825e24ef4089bc56a1c378b4b243d','2.25.305035367832194560147910352892592517622','');
INSERT INTO "revision_input" VALUES(1,1,'1doLymVcEszSwbS6RgtKv0F-idpxL_KJZ','0BoepJeX43Wxmki8VAv3u91oRknIprbKY-mLLt8fB8tOEKqIqTh','','69a6935f0c4eed6c56f39dd6a678701a','2.25.244598397225890280974250543576703630763','');
INSERT INTO "revision_input" VALUES(1,1,'1uMytiskBtHwc0HCoqjGZQdVg5ywm_11o','0BejpBQh6HXHt6d3ehLw9FyQb68GqJEtq8SrWUnUUKiAuLPfxoT','','a89aa4363d08f989bd6cf872bffd6d26','2.25.11080898210664671440999258889076030349','');
INSERT INTO "revision_input" VALUES(2,1,'1OzrN4rleGNhJlCZLFbo3-IsZrH0z__Bs','0BtMy7Hx5XHBdo5gLHPE8YlP8UaRe3Q59QlsTomMkKib4tQI6Rg','','84ee195772307ca0c20146f83fd8d915','2.25.87815948396945173214127611823191706199','');
INSERT INTO "revision_input" VALUES(2,1,'1ZhAJl3TG_mDcwCAyjDawb7Bj0rEWIsz6','0Bmv52Kudof7yRJzChEekrZIzn04tOrEqKE4LGYYIvnukKQ7T-4','','ca2712060720eddc10f0e975dc075583','2.25.336548830410471704731417462386069332038','');
INSERT INTO "revision_input" VALUES(2,1,'1cWq72nXiY28G32l9dWMJGc0G3lwDTMET','0BKYrPW8kS6b6tMv6r6JzZAMCfErxG4SKdcD09-mEUnXDNlztID','','f22f0528036303cb12df628c37dec35c','2.25.224336846687042898657839143481310318191','');
CREATE TABLE sent (                       -- every content we ever gave a result: another one was edited by a person
    file_id      TEXT NOT NULL,
    md5_checksum TEXT NOT NULL,
    PRIMARY KEY (file_id, md5_checksum)
) STRICT, WITHOUT ROWID;
INSERT INTO "sent" VALUES('1-1EI1FSrx_18M6i3fYxtiKYhyNhmjNJE','9e60c55f49e58a2d21d28edf073a16eb');
INSERT INTO "sent" VALUES('1-2LANjJvUjN9LKD6bkNhWQ_6vsNCGeoV','d5df0e8ce2715c9a594169aaca139296');
INSERT INTO "sent" VALUES('1-5AbPSS95ngN49UiLQgc03qGy9j4c54-','16141e1c196695290da2d1faae80e666');
INSERT INTO "sent" VALUES('1-6A6NYL65L4JKOr8jL_YmfV9VhMz45sJ','655f0d0f8f6bdaddd569a87f35ad6bbc');
INSERT INTO "sent" VALUES('1-8Nb9o3tXzW5zCD67-8xLH7_jrkndx_9','0af47f79afbcdedfbde67fd76ba77a4f');
INSERT INTO "sent" VALUES('1-BTOJkAgdOT00gvRnoYTcHByXF1EUuR-','9e60c55f49e58a2d21d28edf073a16eb');
INSERT INTO "sent" VALUES('1-EOiVeFjt8FWSg2ZUr0hHyKAZ_V5EF1m','095d63de0556da3de5ff88a5819e6e94');
INSERT INTO "sent" VALUES('1-GpdX_ugC8LzabFj0Ik9ND0lmlVgFrnd','945a2d13b36d919f5741b7abb8bbc5eb');
INSERT INTO "sent" VALUES('1-ISPI-SZ75R6Y6czIkMDN3YQ94rbba9U','302fe6595cb1f748a3d8cd4b092fc67b');
CREATE TABLE series (
    series_id           INTEGER PRIMARY KEY,
    study_instance_uid  TEXT NOT NULL,
    series_instance_uid TEXT NOT NULL,
    delivered_n         INTEGER NOT NULL DEFAULT 0,         -- 0: none yet
    delivery_folder_id  TEXT NOT NULL DEFAULT '',           -- Drive id, fixed at the first RESERVED
    folder_name         TEXT NOT NULL DEFAULT '',
    home_folder_id      TEXT NOT NULL DEFAULT '',           -- source folder that the delivery mirrors
    filed_clock_s       REAL NOT NULL DEFAULT 0,            -- download clock when its newest instance was FILED, or its revision began
    wanted              INTEGER NOT NULL DEFAULT 0,         -- 1: `process` asked for a rebuild
    dirty               INTEGER NOT NULL DEFAULT 1,         -- 1: its set may have changed
    UNIQUE (study_instance_uid, series_instance_uid)
) STRICT;
INSERT INTO "series" VALUES(1,'2.25.326638565407499098495918584952213308136','2.25.162775113688442089867353632186987349282',1,'1-Ltd9CGR6qPvoTPpNVPV5TFp2UYdaLBr','3_THORAX_AXIAL_ffd03534','1-hEUMuZ6YJ169VvZa7v4LiAcQeRPH1n0',6.20261080000091169495e-01,0,0);
INSERT INTO "series" VALUES(2,'2.25.45425321930349112985725645060682312287','2.25.50064938773443510841712982779532660666',1,'1-AkohLfPKal6g4uYthyPcAlg_l0psW4Y','3_THORAX_AXIAL_f6f2e82a','1K_HoRAHrQmAvSL-Zfc9RkgdehO3Q6h1g',1.13952588399979504174e+00,0,0);
CREATE TABLE shortcut (
    shortcut_id TEXT PRIMARY KEY,
    target_id   TEXT NOT NULL,
    parent_id   TEXT NOT NULL,
    version     INTEGER NOT NULL,
    listing_id  INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
CREATE TABLE spare_id (                   -- reserved at Drive, not yet given to anything
    file_id          TEXT PRIMARY KEY,
    reserved_epoch_s REAL NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO "spare_id" VALUES('1-ZonBnHwMQsUqOYHO0S-4yBy4Xjc9I-X',1.79586164596984267233e+09);
INSERT INTO "spare_id" VALUES('1-_u2WYLQ0FQUKxHsXB0NOppX_CXvIXw-',1.79586164596984267233e+09);
INSERT INTO "spare_id" VALUES('1-cjZDnhiLc_6nfC0Ff9SM8f-joJjOS0N',1.79586164596984267233e+09);
CREATE TABLE upload_session (             -- large uploads under way, for the next process
    file_id         TEXT PRIMARY KEY,
    uri             TEXT NOT NULL,        -- a bearer secret, good for a week: in no log, and gone with the session
    request_key     TEXT NOT NULL,        -- hash of the request that began it
    size_bytes      INTEGER NOT NULL,
    md5_checksum    TEXT NOT NULL,
    started_epoch_s REAL NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX file_due ON file (exam_rank, folder_rank, rank)
    WHERE current = 1 AND state IN ('SEEN', 'FETCHED') AND whereabouts = 'PRESENT' AND held_code = '';
CREATE INDEX file_unread ON file (exam_folder_id, first_seen_epoch_s)
    WHERE current = 1 AND state IN ('SEEN', 'FETCHED') AND whereabouts = 'PRESENT' AND held_code = '';
CREATE INDEX file_parent ON file (parent_id) WHERE current = 1;
CREATE INDEX file_held ON file (held_code) WHERE held_code != '';
CREATE INDEX shortcut_target ON shortcut (target_id);
CREATE INDEX shortcut_parent ON shortcut (parent_id);
CREATE INDEX series_dirty ON series (series_id) WHERE dirty = 1;
CREATE INDEX instance_series ON instance (series_id);
CREATE INDEX revision_due ON revision (state) WHERE state IN ('GATHERING', 'SETTLED', 'CONVERTED', 'RESERVED');
CREATE INDEX revision_input_file ON revision_input (file_id, head_revision_id);
CREATE INDEX result_file ON result (file_id);
CREATE INDEX life_subject ON life (subject);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('listing',3);
INSERT INTO "sqlite_sequence" VALUES('folder',5);
INSERT INTO "sqlite_sequence" VALUES('file',9);
COMMIT;
PRAGMA user_version = 3;
