"""The second reading: every delivered volume is compared with the frames that went in, by a path of its own."""
