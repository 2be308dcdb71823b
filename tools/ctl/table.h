#pragma once

#include <cstdint>
#include <string>
#include <vector>

// Text for people: columns that line up, and colour where a terminal shows it.
namespace voldfs::ctl {

enum class Colour { kNone, kGood, kBad, kWarning, kStrong };

// The text in a colour, if standard output is a terminal (and neither NO_COLOR nor TERM=dumb says otherwise).
std::string coloured(const std::string& text, Colour colour);
void force_colour(bool on);  // for tests

// Rows of cells below a head; every column is as wide as its widest cell.
class Table {
 public:
  struct Cell {
    std::string text;
    Colour colour = Colour::kNone;
    Cell(std::string t, Colour c = Colour::kNone) : text(std::move(t)), colour(c) {}
    Cell(const char* t) : text(t) {}
  };
  explicit Table(std::vector<std::string> head) : head_(std::move(head)) {}
  void add(std::vector<Cell> row) { rows_.push_back(std::move(row)); }  // REQUIRES: as many cells as the head has
  std::string text() const;

 private:
  const std::vector<std::string> head_;
  std::vector<std::vector<Cell>> rows_;
};

std::string bytes_text(uint64_t bytes);     // 1.5GB, as gluster writes it
std::string time_text(int64_t seconds);     // since 1970; UTC, 2026-01-31 13:05:00

}  // namespace voldfs::ctl
