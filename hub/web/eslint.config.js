import js from '@eslint/js';
import a11y from 'eslint-plugin-jsx-a11y';
import hooks from 'eslint-plugin-react-hooks';
import ts from 'typescript-eslint';

export default ts.config(
  { ignores: ['src/api/schema.d.ts', 'node_modules'] },
  js.configs.recommended,
  {
    files: ['**/*.{ts,tsx}'],
    extends: [...ts.configs.strict, ...ts.configs.stylistic, a11y.flatConfigs.strict, hooks.configs.flat.recommended],
    rules: {
      '@typescript-eslint/no-non-null-assertion': 'error',
      // Text from miners is data; nothing on this page may turn it into markup.
      'no-restricted-syntax': [
        'error',
        { selector: 'JSXAttribute[name.name="dangerouslySetInnerHTML"]', message: 'Text from miners is never markup.' },
        { selector: 'AssignmentExpression[left.property.name=/^(innerHTML|outerHTML)$/]', message: 'Text from miners is never markup.' },
      ],
    },
  },
  {
    files: ['**/*.mjs', '*.js'],
    languageOptions: { globals: { MutationObserver: 'readonly', console: 'readonly', process: 'readonly', URL: 'readonly', document: 'readonly', navigator: 'readonly', window: 'readonly', location: 'readonly', setTimeout: 'readonly', fetch: 'readonly', performance: 'readonly', getComputedStyle: 'readonly' } },
  },
);
