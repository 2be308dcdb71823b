#pragma once

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>

namespace voldfs::test {

// What is wrong with a value, by a JSON schema as OpenAPI 3.0 has it: type, properties, required, additionalProperties,
// items, enum and $ref into `document`. Empty: nothing. A keyword that it does not know is wrong, so that none is passed over.
inline std::string check_schema(const nlohmann::json& value, const nlohmann::json& schema, const nlohmann::json& document, const std::string& at = "$") {
  if (schema.contains("$ref")) {
    const std::string to = schema.at("$ref");  // "#/components/schemas/NAME"
    return check_schema(value, document.at(nlohmann::json::json_pointer(to.substr(1))), document, at);
  }
  for (const auto& [key, ignored] : schema.items()) {
    static constexpr const char* known[] = {"type", "properties", "required", "additionalProperties", "items", "enum", "description", "format"};
    if (std::find(std::begin(known), std::end(known), key) == std::end(known)) return at + ": the schema has the unknown keyword " + key;
  }
  const std::string type = schema.value("type", "");
  const bool fits = type.empty() || (type == "object" && value.is_object()) || (type == "array" && value.is_array()) || (type == "string" && value.is_string()) ||
                    (type == "integer" && value.is_number_integer()) || (type == "boolean" && value.is_boolean());
  if (!fits) return at + ": is no " + type + ": " + value.dump();
  if (schema.contains("enum") && std::find(schema["enum"].begin(), schema["enum"].end(), value) == schema["enum"].end()) return at + ": is none of the enum: " + value.dump();
  if (value.is_object()) {
    for (const auto& key : schema.value("required", nlohmann::json::array())) {
      if (!value.contains(key.get<std::string>())) return at + ": has no " + key.get<std::string>();
    }
    const auto properties = schema.value("properties", nlohmann::json::object());
    const auto more = schema.value("additionalProperties", nlohmann::json(true));
    for (const auto& [key, each] : value.items()) {
      std::string wrong;
      if (properties.contains(key)) wrong = check_schema(each, properties.at(key), document, at + "." + key);
      else if (more.is_object()) wrong = check_schema(each, more, document, at + "." + key);
      else if (!more.get<bool>()) wrong = at + ": is not described: " + key;
      if (!wrong.empty()) return wrong;
    }
  }
  if (value.is_array() && schema.contains("items")) {
    for (size_t i = 0; i < value.size(); ++i) {
      if (auto wrong = check_schema(value[i], schema.at("items"), document, at + "[" + std::to_string(i) + "]"); !wrong.empty()) return wrong;
    }
  }
  return "";
}

}  // namespace voldfs::test
