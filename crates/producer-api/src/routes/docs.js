// The validator is off, because Swagger UI would send the description to a validator on another host.
SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#interface",
  deepLinking: true,
  docExpansion: "list",
  validatorUrl: null,
});
