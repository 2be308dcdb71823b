#pragma once

#include <sys/types.h>

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "brick/base/result.h"

// Small files that must be whole: read and replaced at once.
namespace voldfs::mgmt {

inline constexpr size_t kFileSizeMax = 256u << 20;  // of a state with all its bounds reached

// Replaces the file: after a crash there is the old one or the new one. On the disk when it returns.
Explained<void> write_file(const std::string& path, std::string_view content, mode_t mode);
// ENOENT: there is none. EFBIG: above kFileSizeMax.
Result<std::string> read_file(const std::string& path);
// Writes only if the file's content or mode differs. Returns whether it did.
Explained<bool> ensure_file(const std::string& path, std::string_view content, mode_t mode);
// Makes the directory and its parents.
Explained<void> make_directories(const std::string& path, mode_t mode);

// A JSON object with a checksum of the rest of it under "checksum".
Explained<void> write_document(const std::string& path, nlohmann::json document, mode_t mode);
// ENOENT: there is none. EBADMSG: damaged or edited.
Result<nlohmann::json> read_document(const std::string& path);
std::string document_text(nlohmann::json document);

}  // namespace voldfs::mgmt
