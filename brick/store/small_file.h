#pragma once

#include <string>
#include <string_view>

#include <sys/types.h>

#include "brick/base/result.h"

// The small files of `.voldfs/`. Blocking; any thread.
namespace voldfs::store {

inline constexpr size_t kSmallFileMax = 16u << 20;  // the largest is the map of 1,023 bricks

// The whole content. ENOENT; EFBIG: more than kSmallFileMax.
Result<std::string> read_small_file(int dir, const char* name);
// The file has either its old or its new content, also after a power failure.
Result<void> write_small_file(int dir, const char* name, std::string_view content, mode_t mode);

// What a write answers on a full disk, or beyond a quota.
inline bool is_full(Error error) { return error.code == ENOSPC || error.code == EDQUOT; }

// What the kernel says of this boot; empty when it does not.
std::string boot_id();

}  // namespace voldfs::store
