#include "mgmt/files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <cstring>
#include <filesystem>
#include <set>

#include "brick/base/id.h"
#include "brick/base/unique_fd.h"
#include "mgmt/fault_point.h"

namespace voldfs::mgmt {

namespace {

tl::unexpected<std::string> failed(const char* what, const std::string& path) {
  const int error = errno;
  return explain(std::string("Could not ") + what + " " + path + ": " + std::strerror(error) + ".");
}

Result<void> write_all(int fd, std::string_view content) {
  while (!content.empty()) {
    const ssize_t n = ::write(fd, content.data(), content.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail_errno();
    content.remove_prefix(static_cast<size_t>(n));
  }
  return {};
}

std::string checksum_of(std::string_view text) {
  char digits[17];
  snprintf(digits, sizeof digits, "%016llx", static_cast<unsigned long long>(XXH3_64bits(text.data(), text.size())));
  return digits;
}

std::string checksum(const nlohmann::json& document) { return checksum_of(document.dump()); }

}  // namespace

FileBatch::~FileBatch() {
  for (const Pending& file : pending_) ::unlink(file.temporary.c_str());
}

Explained<void> FileBatch::add(const std::string& path, std::string_view content, mode_t mode) {
  if (pending_.size() >= kMax) {
    if (auto done = commit(); !done) return done;
  }
  // A name of its own: two writers of one file replace it one after the other.
  const std::string temporary = path + "." + Id::random().hex().substr(0, 8) + ".tmp";
  unique_fd fd(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode));
  if (!fd) return failed("create", temporary);
  pending_.push_back({path, temporary, std::move(fd)});
  fault_point_of_file(path, "created");
  const int file = pending_.back().fd.get();
  auto done = [&]() -> Explained<void> {
    if (::fchmod(file, mode) != 0) return failed("set the mode of", temporary);
    if (auto written = write_all(file, content); !written) {
      errno = written.error().code;
      return failed("write", temporary);
    }
    return {};
  }();
  if (!done) {
    ::unlink(temporary.c_str());
    pending_.pop_back();
  }
  return done;
}

Explained<void> FileBatch::commit() {
  for (const Pending& file : pending_) {
    if (::fsync(file.fd.get()) != 0) return failed("flush", file.temporary);
    fault_point_of_file(file.path, "written");
  }
  std::set<std::string> parents;
  while (!pending_.empty()) {
    const Pending& file = pending_.back();
    if (::rename(file.temporary.c_str(), file.path.c_str()) != 0) return failed("put in place", file.temporary);
    fault_point_of_file(file.path, "renamed");
    parents.insert(std::filesystem::path(file.path).parent_path());
    pending_.pop_back();
  }
  for (const std::string& parent : parents) {
    const unique_fd directory(::open(parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!directory || ::fsync(directory.get()) != 0) return failed("flush", parent);
  }
  return {};
}

Explained<void> write_file(const std::string& path, std::string_view content, mode_t mode) {
  FileBatch batch;
  if (auto added = batch.add(path, content, mode); !added) return added;
  return batch.commit();
}

Result<std::string> read_file(const std::string& path) {
  const unique_fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return fail_errno();
  std::string content;
  char buffer[65536];
  for (;;) {
    const ssize_t n = ::read(fd.get(), buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail_errno();
    if (n == 0) return content;
    content.append(buffer, static_cast<size_t>(n));
    if (content.size() > kFileSizeMax) return fail(EFBIG);
  }
}

Explained<bool> ensure_file(FileBatch& batch, const std::string& path, std::string_view content, mode_t mode) {
  struct stat st{};
  if (::lstat(path.c_str(), &st) == 0 && S_ISREG(st.st_mode) && (st.st_mode & 07777) == mode) {
    if (const auto there = read_file(path); there && *there == content) return false;
  }
  if (auto made = make_directories(std::filesystem::path(path).parent_path(), 0755); !made) return explain(made.error());
  if (auto added = batch.add(path, content, mode); !added) return explain(added.error());
  return true;
}

Explained<bool> ensure_file(const std::string& path, std::string_view content, mode_t mode) {
  FileBatch batch;
  auto differs = ensure_file(batch, path, content, mode);
  if (!differs) return differs;
  if (auto done = batch.commit(); !done) return explain(done.error());
  return differs;
}

Explained<void> make_directories(const std::string& path, mode_t mode) {
  struct stat st{};
  if (path.empty() || (::stat(path.c_str(), &st) == 0 && S_ISDIR(st.st_mode))) return {};
  if (auto parent = make_directories(std::filesystem::path(path).parent_path(), 0755); !parent) return parent;
  if (::mkdir(path.c_str(), mode) != 0 && errno != EEXIST) return failed("make the directory", path);
  return {};
}

std::string document_text(nlohmann::json document) {
  document.erase("checksum");
  document["checksum"] = checksum(document);
  return document.dump(2) + "\n";
}

std::string document_text_of(std::string_view compact) {
  return "{\"checksum\":\"" + checksum_of(compact) + "\"," + std::string(compact.substr(1)) + "\n";
}

Explained<void> write_document(const std::string& path, nlohmann::json document, mode_t mode) {
  return write_file(path, document_text(std::move(document)), mode);
}

Result<nlohmann::json> read_document(const std::string& path) {
  const auto text = read_file(path);
  if (!text) return fail(text.error());
  nlohmann::json document = nlohmann::json::parse(*text, nullptr, false);
  if (!document.is_object() || !document.contains("checksum")) return fail(EBADMSG);
  const nlohmann::json said = document["checksum"];
  document.erase("checksum");
  if (said != checksum(document)) return fail(EBADMSG);
  return document;
}

}  // namespace voldfs::mgmt
