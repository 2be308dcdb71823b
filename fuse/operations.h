#pragma once

#include <fuse_lowlevel.h>

#include "fuse/request.h"

// Every operation that the kernel may ask for, by family. Each answers its request through a reply_* of it, or
// returns an error, which becomes the reply. Worker threads; blocking.
namespace voldfs::fuse {

// ops_name.cc
Result<void> lookup(Request& request, fuse_ino_t parent, const char* name);
Result<void> forget(Request& request, fuse_ino_t ino, uint64_t count);
Result<void> forget_multi(Request& request, size_t count, fuse_forget_data* forgets);
Result<void> mknod(Request& request, fuse_ino_t parent, const char* name, mode_t mode, dev_t device);
Result<void> mkdir(Request& request, fuse_ino_t parent, const char* name, mode_t mode);
Result<void> symlink(Request& request, const char* target, fuse_ino_t parent, const char* name);
Result<void> unlink(Request& request, fuse_ino_t parent, const char* name);
Result<void> rmdir(Request& request, fuse_ino_t parent, const char* name);
Result<void> rename(Request& request, fuse_ino_t parent, const char* name, fuse_ino_t new_parent, const char* new_name, unsigned flags);
Result<void> link(Request& request, fuse_ino_t ino, fuse_ino_t new_parent, const char* new_name);

// ops_attr.cc
Result<void> getattr(Request& request, fuse_ino_t ino, fuse_file_info* info);
Result<void> setattr(Request& request, fuse_ino_t ino, struct stat* attr, int valid, fuse_file_info* info);
Result<void> readlink(Request& request, fuse_ino_t ino);
Result<dht::Entry> statx(Mount& mount, const protocol::InHeader& header, const protocol::StatxIn& in);
protocol::StatxOut to_statx(const dht::Entry& entry, double valid_s);

// ops_open.cc
Result<void> open(Request& request, fuse_ino_t ino, fuse_file_info* info);
Result<void> create(Request& request, fuse_ino_t parent, const char* name, mode_t mode, fuse_file_info* info);
Result<void> tmpfile(Request& request, fuse_ino_t parent, mode_t mode, fuse_file_info* info);
Result<void> flush(Request& request, fuse_ino_t ino, fuse_file_info* info);
Result<void> release(Request& request, fuse_ino_t ino, fuse_file_info* info);

// ops_io.cc
Result<void> read(Request& request, fuse_ino_t ino, size_t size, off_t offset, fuse_file_info* info);
Result<void> write(Request& request, fuse_ino_t ino, const char* data, size_t size, off_t offset, fuse_file_info* info);
Result<void> fsync(Request& request, fuse_ino_t ino, int data_only, fuse_file_info* info);
Result<void> fallocate(Request& request, fuse_ino_t ino, int mode, off_t offset, off_t length, fuse_file_info* info);
Result<void> lseek(Request& request, fuse_ino_t ino, off_t offset, int whence, fuse_file_info* info);
Result<void> copy_file_range(Request& request, fuse_ino_t from, off_t from_offset, fuse_file_info* from_info, fuse_ino_t to,
                             off_t to_offset, fuse_file_info* to_info, size_t size, int flags);

// ops_dir.cc
Result<void> opendir(Request& request, fuse_ino_t ino, fuse_file_info* info);
Result<void> readdir(Request& request, fuse_ino_t ino, size_t size, off_t offset, fuse_file_info* info);
Result<void> readdirplus(Request& request, fuse_ino_t ino, size_t size, off_t offset, fuse_file_info* info);
Result<void> releasedir(Request& request, fuse_ino_t ino, fuse_file_info* info);
Result<void> fsyncdir(Request& request, fuse_ino_t ino, int data_only, fuse_file_info* info);

// ops_xattr.cc
Result<void> setxattr(Request& request, fuse_ino_t ino, const char* name, const char* value, size_t size, int flags);
Result<void> getxattr(Request& request, fuse_ino_t ino, const char* name, size_t size);
Result<void> listxattr(Request& request, fuse_ino_t ino, size_t size);
Result<void> removexattr(Request& request, fuse_ino_t ino, const char* name);

// ops_lock.cc
Result<void> getlk(Request& request, fuse_ino_t ino, fuse_file_info* info, struct flock* lock);
Result<void> setlk(Request& request, fuse_ino_t ino, fuse_file_info* info, struct flock* lock, int wait);
Result<void> flock(Request& request, fuse_ino_t ino, fuse_file_info* info, int operation);

// ops_misc.cc
void init(void* mount, fuse_conn_info* connection);
Result<void> statfs(Request& request, fuse_ino_t ino);
Result<void> ioctl(Request& request, fuse_ino_t ino, unsigned command, void* argument, fuse_file_info* info, unsigned flags,
                   const void* in, size_t in_size, size_t out_size);

// operations.cc: all of them, as libfuse calls them.
extern const fuse_lowlevel_ops kOperations;

}  // namespace voldfs::fuse
