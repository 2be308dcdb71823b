#pragma once

#include <cstdint>
#include <list>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "dht/later.h"
#include "dht/volume_impl.h"

namespace voldfs::dht {

struct DirentView;

// Looking ahead: who asks for a good part of a directory's names one by one, without listing it (git status, make), has it listed
// with attributes, behind his back, and the next lookups cost no request. An entry serves one lookup. Only plain ones are
// kept: files with one name, at their authority, in no transaction, that nobody writes past the brick. What is not listed is missing
// (known_names.h).
//
// What others change is recalled, and then not used. What this mount changes is not recalled; but it changes a file through its node,
// and nothing is kept or used of files that have one, or by its name, which is forgotten here.
// Any thread. mutex_ is a leaf.
class LookAhead {
 public:
  explicit LookAhead(Volume::Impl& volume) : volume_(volume) {}

  // Empty: somebody has to be asked.
  std::optional<Entry> take(const NodePtr& dir, std::string_view name);
  // A lookup has cost a request, and has found a file or nothing.
  void asked(const NodePtr& dir);
  // This mount changes what the name is.
  void forget(const NodePtr& dir, std::string_view name);
  void stop() { later_.stop(); }
  size_t size();  // entries at hand

 private:
  struct Told {
    uint16_t brick;
    wire::ObjectRef object;
    wire::ObjectType type;
    wire::Attr attr;
    Grant grant;
  };
  struct Table {
    Id dir;
    std::unordered_map<std::string, Told> entries;
  };
  static constexpr size_t kTablesMax = 4;
  static constexpr uint64_t kEntriesMax = 8192;    // of a table; a larger directory is not fetched
  static constexpr uint64_t kEntryBytes = 40;      // of a directory's size: what an entry takes at least, about
  static constexpr uint32_t kLookupsMin = 8;
  static constexpr uint64_t kWorthIt = 16;         // entries that are fetched for each lookup so far, at most
  static constexpr uint32_t kPageSize = 128u << 10;
  static constexpr uint32_t kReaddirFlags = 1 | 2;  // with attributes, and without a trace

  std::optional<uint64_t> entries_expected(const NodePtr& dir) const;
  void fetch(const NodePtr& dir);
  struct Page {
    uint64_t position = 0;  // where the next one begins
    bool last = false;
    Grant grant;
  };
  // The page that follows. False: nothing can be kept of it.
  bool fetch_page(const NodePtr& dir, uint16_t ordinal, Page& page);
  bool fetch_brick(const NodePtr& dir, uint16_t ordinal, std::vector<Grant>& grants);
  bool is_plain(const NodePtr& dir, uint16_t ordinal, const DirentView& entry) const;
  Table& table_of(const Id& dir);  // REQUIRES: mutex_

  Volume::Impl& volume_;
  std::mutex mutex_;
  std::list<Table> tables_;        // guarded by mutex_; the one used last comes first
  Later later_;
};

}  // namespace voldfs::dht
