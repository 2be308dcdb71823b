#pragma once

#include <sys/types.h>

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "brick/base/result.h"
#include "brick/base/unique_fd.h"

// Small files that must be whole: read and replaced at once.
namespace voldfs::mgmt {

inline constexpr size_t kFileSizeMax = 256u << 20;  // of a state with all its bounds reached

// Replaces the file: after a crash there is the old one or the new one. On the disk when it returns.
Explained<void> write_file(const std::string& path, std::string_view content, mode_t mode);

// Many files replaced together, which costs little more than one: their flushes share the journal's commits. Each of them is
// the old one or the new one after a crash.
class FileBatch {
 public:
  static constexpr size_t kMax = 256;  // open at once; then they are put in place

  FileBatch() = default;
  ~FileBatch();  // what was not put in place is removed
  FileBatch(const FileBatch&) = delete;
  FileBatch& operator=(const FileBatch&) = delete;
  Explained<void> add(const std::string& path, std::string_view content, mode_t mode);
  // All are in place and on the disk when it returns.
  Explained<void> commit();

 private:
  struct Pending {
    std::string path, temporary;
    unique_fd fd;
  };
  std::vector<Pending> pending_;
};
// ENOENT: there is none. EFBIG: above kFileSizeMax.
Result<std::string> read_file(const std::string& path);
// Writes only if the file's content or mode differs, making its directory. Returns whether it did (whether it is in the batch).
Explained<bool> ensure_file(const std::string& path, std::string_view content, mode_t mode);
Explained<bool> ensure_file(FileBatch& batch, const std::string& path, std::string_view content, mode_t mode);
// Makes the directory and its parents.
Explained<void> make_directories(const std::string& path, mode_t mode);

// A JSON object with a checksum of the rest of it under "checksum".
Explained<void> write_document(const std::string& path, nlohmann::json document, mode_t mode);
// ENOENT: there is none. EBADMSG: damaged or edited.
Result<nlohmann::json> read_document(const std::string& path);
std::string document_text(nlohmann::json document);
// The same of one that is large and at hand as a text, with its keys sorted and no spaces, as dump() makes it.
std::string document_text_of(std::string_view compact);

}  // namespace voldfs::mgmt
