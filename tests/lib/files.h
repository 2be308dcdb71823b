#pragma once

#include <cstddef>
#include <filesystem>

namespace voldfs::test {

// errno of a call that returns below 0 when it fails; 0: it has not.
int fails(int result);
// Makes the file, or writes over it; 0 or the errno.
int write_file(const std::filesystem::path& path, size_t bytes);

}  // namespace voldfs::test
