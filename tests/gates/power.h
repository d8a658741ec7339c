/* What a disk keeps when the power fails: what was synced, and nothing else. */
#ifndef GATES_POWER_H
#define GATES_POWER_H

enum { POWER_LOST = 77 };

/*
 * A file or directory has been synced: as it is now it goes to MF_SYNCED, under its inode's number.
 * A file is its bytes; a directory is a line for each entry, "f|d INODE NAME". A name is on the
 * disk once its directory was synced, whatever became of the file.
 */
void mf_power_keep(int fd);

#endif
