#pragma once

#include <memory>

#include "dht/volume.h"
#include "fuse/backing_files.h"

namespace voldfs::fuse {

// An open file as the kernel names it (fuse_file_info::fh).
struct FileHandle {
  dht::OpenFilePtr file;
  bool direct = false;        // the kernel keeps no pages of what goes through this open
  BackingFiles::Use backing;  // ends before the brick hears of the open's end
};

struct DirectoryHandle {
  dht::NodePtr node;
  std::shared_ptr<dht::DirStream> stream;
  dht::DeliveredPages::Page last_page;
};

}  // namespace voldfs::fuse
